// ONNX Runtime: a graph's file, ready to run on the CPU or an NVIDIA GPU.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "manifest.hpp"
#include "task.hpp"
#include "tensor.hpp"

namespace slipway {

struct SessionOptions {
  std::string device = "cpu";   // "cpu", "cuda", "tensorrt"
  int threads = 0;              // inside an operator, on the CPU; 0: all cores
  std::filesystem::path cache;  // where optimised graphs and TensorRT's engines are kept; empty: nowhere
  std::string graph_sha256;     // the key of what is kept; empty: keep nothing
};

class Session {
 public:
  // Throws BundleError for a damaged file, SessionError for a device that is not there: never a silent fall-back.
  Session(const std::filesystem::path& graph, const SessionOptions& options);
  ~Session();

  const std::vector<TensorSpec>& inputs() const;
  const std::vector<TensorSpec>& outputs() const;
  // An entry of what the graph's file says about itself; empty where there is none.
  std::string metadata(const char* key) const;

  // Host arrays → host outputs. Throws SessionError for a shape that the graph does not take, VerificationError for
  // outputs that are no finite numbers. Input buffers are reused: one thread at a time.
  Outputs run(const Batch& batch);

  // Places a batch on the device; the returned call runs the graph on it and returns once the outputs are finished
  // there.
  std::function<void()> bind(const Batch& batch);

  // How many images the graph takes at once; 0: any number.
  std::int64_t fixed_batch() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// The version of the ONNX Runtime that is loaded.
std::string onnxruntime_version();

// Refuse (BundleError) a graph whose inputs or outputs are not the manifest's.
void check_graph(const Manifest& manifest, const Session& session);

}  // namespace slipway
