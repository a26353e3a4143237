#include "sigmoid.hpp"

#include <cmath>
#include <limits>

namespace slipway {
namespace {

// The exponential is computed in double: library functions for float differ in the last place.
bool above(float logit, float threshold) {
  const auto exponential = static_cast<float>(std::exp(-static_cast<double>(logit)));
  return 1.F / (1.F + exponential) > threshold;
}

}  // namespace

float highest_outside(double threshold) {
  constexpr float kInfinite = std::numeric_limits<float>::infinity();
  const auto limit = static_cast<float>(threshold);
  float outside = -128, inside = 128;  // e^128 is infinite in float32
  if (above(outside, limit)) return -kInfinite;
  if (!above(inside, limit)) return kInfinite;
  for (;;) {
    const float middle = outside + (inside - outside) / 2;
    if (middle == outside || middle == inside) return outside;
    (above(middle, limit) ? inside : outside) = middle;
  }
}

}  // namespace slipway
