// Execution providers: which part of ONNX Runtime runs a graph on a device.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <string>

#include "session.hpp"

namespace slipway {

// Add the provider of `options.device`. Throws SessionError, naming those that were found, where it is not there.
void add_provider(Ort::SessionOptions& settings, const SessionOptions& options);

}  // namespace slipway
