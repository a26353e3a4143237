"""Room 1: labelled images → checkpoint. `python -m train CONFIG` around MMEngine's Runner."""
