#include "predict.hpp"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "answers.hpp"
#include "error.hpp"
#include "pipeline.hpp"
#include "terminal.hpp"

namespace slipway {
namespace {

// Write to stdout; 0, or why that failed, as errno has it. Ctrl-C cuts no line in two, as it would in a C stream.
int print(std::string_view text) {
  while (!text.empty()) {
    const auto written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno != EINTR) return errno;
    text.remove_prefix(static_cast<std::size_t>(std::max<ssize_t>(written, 0)));
  }
  return 0;
}

std::filesystem::path array_name(const Source& source) { return source.name.string() + ".npy"; }

// Nothing is overwritten, neither what is read nor what was just written.
void refuse_overwriting(const Model& model, const std::vector<Source>& sources, const PredictOptions& options) {
  const auto drawings = [&](const Source& source) {
    std::vector<std::filesystem::path> names{source.name};
    for (const auto& ending : model.task().beside())
      names.push_back(std::filesystem::path(source.name).replace_extension(ending));
    return names;
  };
  if (!options.out.empty()) check_targets(sources, "--out", options.out, drawings);
  if (!options.inputs.empty())
    check_targets(sources, "--inputs", options.inputs,
                  [](const Source& source) { return std::vector{array_name(source)}; });
}

class Prediction {
 public:
  Prediction(const Model& model, const std::vector<Source>& sources, const PredictOptions& options)
      : model_(model), sources_(sources), options_(options) {}

  Item load(std::size_t index) const {
    const auto name = sources_[index].path.string();
    auto image = decode(read_file(name), name);
    auto prepared = preprocess(image, model_.manifest().preprocess, name);
    if (options_.out.empty()) image.release();
    return {std::move(prepared), image};
  }

  // Write what is to be written; the line to print.
  std::string finish(std::size_t index, const Item& item, const Result& result) const {
    const auto& source = sources_[index];
    if (!options_.inputs.empty()) {
      const auto& prepared = item.prepared;
      const auto array = npy_of(prepared.array, {prepared.channels, prepared.size.height, prepared.size.width});
      write_file(options_.inputs / array_name(source), array);
    }
    if (!options_.out.empty()) {
      const auto target = options_.out / source.name;
      write_file(target, encode(result.draw(item.image, options_.opacity), target.string()));
      for (const auto& [ending, content] : result.beside())
        write_file(std::filesystem::path(target).replace_extension(ending), content);
    }
    if (!options_.json) return source.path.string() + "  " + result.line();
    return json_line(source.path.string(), result);
  }

  void done(const std::string& line) {
    if (!unwritable_) unwritable_ = print(line + "\n");
    if (!unwritable_) ++done_;
    progress();
  }

  void failed(const ImageError& error) {
    ++failed_;
    say(std::string("error: ") + error.what());
    progress();
  }

  // Nobody reads on (`… | head`), or the user has had enough.
  bool stop() const { return interrupted() || unwritable_; }

  int close() const {
    show_progress("");
    const auto count = sources_.size();
    if (failed_ && count > 1)
      say("error: " + std::to_string(failed_) + " of " + std::to_string(count) + " files could not be read");
    if (!options_.out.empty()) say("wrote " + std::to_string(done_) + " predictions below " + options_.out.string());
    if (interrupted()) {
      say("interrupted: " + std::to_string(done_) + " of " + std::to_string(count) + " files are done");
      return 130;
    }
    if (unwritable_ == EPIPE) return 1;
    if (unwritable_) {
      say(std::string("error: stdout: cannot be written (") + std::strerror(unwritable_) + ")");
      return ImageError("").exit_code;
    }
    return failed_ ? ImageError("").exit_code : 0;
  }

 private:
  void progress() const {
    if (sources_.size() > 1) show_progress(std::to_string(done_ + failed_) + "/" + std::to_string(sources_.size()));
  }

  const Model& model_;
  const std::vector<Source>& sources_;
  const PredictOptions& options_;
  std::size_t done_ = 0, failed_ = 0;
  int unwritable_ = 0;  // why stdout is, as errno has it
};

}  // namespace

int predict(const Model& model, const std::vector<Source>& sources, const PredictOptions& options) {
  refuse_overwriting(model, sources, options);
  Prediction prediction(model, sources, options);
  const auto most = static_cast<std::size_t>(model.batch_size(options.batch));
  const auto batch = static_cast<int>(std::min(most, sources.size()));
  ThreadPool workers(options.workers);
  const Stages stages{
      [&](std::size_t index) { return prediction.load(index); },
      [&](std::size_t index, const Item& item, const Result& result) { return prediction.finish(index, item, result); },
      [&](std::size_t, const std::string& line) { prediction.done(line); },
      [&](std::size_t, const ImageError& error) { prediction.failed(error); }, [&] { return prediction.stop(); }};
  run_pipeline(model, workers, sources.size(), batch, batch + options.workers, stages);
  return prediction.close();
}

}  // namespace slipway
