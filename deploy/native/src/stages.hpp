// Where the time of one image goes: each stage of its way alone, one after the other in one thread.
#pragma once

#include "rotation.hpp"
#include "timing.hpp"

namespace slipway {

// {"stages_us": {"decode": […], "preprocess": […], "compute": […], "postprocess": […]}, "stages_invalid": why or null}:
// one sample an image and turn, in the order of the images, which go through one at a time. "compute" is from the host
// array to the outputs on the host. `count`: of how many of the rotation's images, from the first on.
Json time_stages(const Model& model, const Rotation& rotation, std::size_t count, const TimerSettings& settings,
                 const Clock& clock = steady_ns);

}  // namespace slipway
