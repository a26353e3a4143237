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

// A batch that lies on the device.
struct Bound {
  std::function<void()> run;        // returns once the graph's outputs are finished on the device
  std::function<Outputs()> answer;  // what the last run left there; for a batch that was bound to be kept, on the CPU
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

  // Places a batch on the device. `keep`: its outputs stay until the next run instead of being freed at once.
  Bound bind(const Batch& batch, bool keep = false);

  // Whether `bind` leaves what the graph computes in a GPU's memory.
  bool on_gpu() const;

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
