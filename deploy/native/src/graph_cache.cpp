#include "graph_cache.hpp"

#include <unistd.h>

#include <fstream>
#include <functional>
#include <sstream>

#include "error.hpp"
#include "sha256.hpp"

namespace slipway {
namespace {

// Layouts are chosen for a processor's instructions.
std::string processor() {
  std::ifstream file("/proc/cpuinfo");
  std::string line, known;
  while (std::getline(file, line))
    if (line.starts_with("model name") || line.starts_with("flags") || line.starts_with("Features")) {
      known += line;
      if (!line.starts_with("model name")) break;
    }
  std::ostringstream text;
  text << std::hex << std::hash<std::string>{}(known);
  return text.str();
}

std::string read_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

}  // namespace

GraphCache::GraphCache(const std::filesystem::path& graph, const SessionOptions& options) : graph_(graph) {
  // TensorRT and CUDA optimise on their own; their caches are the providers'.
  if (options.cache.empty() || options.graph_sha256.empty() || options.device != "cpu") return;
  const auto name = options.graph_sha256.substr(0, 16) + "-" + onnxruntime_version() + "-" + processor() + ".onnx";
  entry_ = options.cache / name;
}

GraphCache::~GraphCache() {
  std::error_code ignored;
  if (!fresh_.empty()) std::filesystem::remove(fresh_, ignored);
}

std::filesystem::path GraphCache::prepare(Ort::SessionOptions& settings) {
  if (entry_.empty()) return graph_;
  const auto hash = read_line(entry_.string() + ".sha256");
  if (!hash.empty() && sha256_of(entry_) == hash) {
    settings.SetGraphOptimizationLevel(ORT_DISABLE_ALL);
    return entry_;
  }
  std::error_code error;
  std::filesystem::create_directories(entry_.parent_path(), error);
  fresh_ = entry_.string() + "." + std::to_string(getpid());
  if (error || !std::ofstream(fresh_)) {
    throw SessionError("--cache " + entry_.parent_path().string() + ": cannot be written to; give another folder");
  }
  settings.SetOptimizedModelFilePath(fresh_.c_str());
  return graph_;
}

void GraphCache::keep() {
  if (fresh_.empty()) return;
  const auto hash = sha256_of(fresh_);
  // The hash last: without it the entry does not count.
  std::filesystem::remove(entry_.string() + ".sha256");
  std::filesystem::rename(fresh_, entry_);
  std::ofstream(entry_.string() + ".sha256") << hash.value_or("") << "\n";
}

}  // namespace slipway
