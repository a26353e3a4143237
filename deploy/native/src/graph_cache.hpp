// A folder of optimised graphs: ONNX Runtime's optimisation of a graph is done once a machine instead of at every
// start.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <filesystem>

#include "session.hpp"

namespace slipway {

// One graph's place in the cache. Its name holds all that the optimisation depends on: the graph's hash, ONNX Runtime's
// version, and the processor. Beside it lies its own hash, so that a damaged entry is made anew instead of run.
class GraphCache {
 public:
  GraphCache(const std::filesystem::path& graph, const SessionOptions& options);
  // Leaves nothing behind of a graph that could not be opened.
  ~GraphCache();

  // The file to open, and the settings for it. Throws SessionError for a folder that cannot be written to.
  std::filesystem::path prepare(Ort::SessionOptions& settings);
  // After opening: put what was optimised just now into its place.
  void keep();

 private:
  std::filesystem::path graph_, entry_, fresh_;
};

}  // namespace slipway
