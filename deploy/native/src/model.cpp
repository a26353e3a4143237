#include "model.hpp"

#include "error.hpp"

namespace slipway {

namespace fs = std::filesystem;

Model::Model(const fs::path& bundle, const ModelOptions& options) {
  auto settings = options.session;
  if (fs::is_directory(bundle)) {
    manifest_ = read_manifest(bundle);
    check_files(bundle, manifest_, options.precision);
    const auto graph = graph_named(options.precision);
    settings.graph_sha256 = manifest_.files.at(graph);
    session_ = std::make_unique<Session>(bundle / graph, settings);
  } else {
    if (options.precision != "fp32" && fs::exists(bundle))
      throw UsageError("--precision chooses among a bundle's graphs; " + bundle.string() + " is one graph");
    session_ = std::make_unique<Session>(bundle, settings);
    const auto text = session_->metadata(kMetadataKey);
    if (text.empty()) {
      throw BundleError(bundle.string() + ": no '" + kMetadataKey +
                        "' in its metadata; give the bundle's folder instead");
    }
    manifest_ = parse_manifest(text, bundle.string() + ": metadata");
  }
  check_graph(manifest_, *session_);
  change(options);
  task_ = make_task(manifest_);
}

void Model::change(const ModelOptions& options) {
  const auto refuse = [&](const std::string& option, const std::string& task) {
    throw UsageError(option + " is for " + task + "; " + manifest_.name + " does " + std::string(manifest_.task()));
  };
  if (options.topk) {
    auto* output = std::get_if<ClassificationOutput>(&manifest_.postprocess);
    if (!output) refuse("--topk", "classification");
    output->topk = *options.topk;
  }
  if (options.score) {
    auto* output = std::get_if<DetectionOutput>(&manifest_.postprocess);
    if (!output) refuse("--score", "detection");
    output->score_threshold = *options.score;
  }
}

int Model::batch_size(int wanted) const {
  const auto fixed = session_->fixed_batch();
  if (!wanted) return fixed ? static_cast<int>(fixed) : 1;
  if (fixed && wanted != fixed) {
    throw UsageError("batch size " + std::to_string(wanted) + ": this graph takes " + std::to_string(fixed));
  }
  return wanted;
}

Outputs Model::run(std::span<const Prepared* const> batch) const {
  return task_->run(batch, [this](const Batch& inputs) { return session_->run(inputs); });
}

}  // namespace slipway
