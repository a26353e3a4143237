// When a logit's sigmoid is above a threshold, as torch decides it in float32.
#pragma once

namespace slipway {

// The highest logit x with 1 / (1 + e^−x) ≤ threshold, each operation rounded to float32. Comparing with it spares an
// exponential a pixel.
float highest_outside(double threshold);

}  // namespace slipway
