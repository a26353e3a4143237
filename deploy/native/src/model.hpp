// A loaded bundle: its manifest, the graph, and what becomes of the graph's outputs.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "manifest.hpp"
#include "session.hpp"
#include "task.hpp"

namespace slipway {

struct ModelOptions {
  SessionOptions session;
  std::string precision = "fp32";    // which of the bundle's graphs, see `kPrecisions`
  std::optional<std::int64_t> topk;  // in place of the manifest's
  std::optional<double> score;       // likewise
};

class Model {
 public:
  // A bundle's folder, whose graph is compared with the manifest's hash before it is loaded, or a bare graph, which
  // carries its manifest. Throws UsageError for options of another task or kind of file, else as `read_manifest`,
  // `check_files`, Session.
  Model(const std::filesystem::path& bundle, const ModelOptions& options);

  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  const Manifest& manifest() const { return manifest_; }
  Session& session() const { return *session_; }
  const Task& task() const { return *task_; }

  // The batch size that `wanted` (0: none) stands for. Throws UsageError where the graph's is fixed to another.
  int batch_size(int wanted) const;

  // Put prepared images of one shape through the graph.
  Outputs run(std::span<const Prepared* const> batch) const;

 private:
  void change(const ModelOptions& options);

  Manifest manifest_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Task> task_;
};

}  // namespace slipway
