"""What the precisions share: images, the ranges they give, the score a graph reaches, and the search for what to keep."""
