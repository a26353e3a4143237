// The command line: `ort_infer BUNDLE FILE…`.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <iostream>
#include <opencv2/core.hpp>
#include <optional>

#include "benchmark.hpp"
#include "error.hpp"
#include "files.hpp"
#include "machine.hpp"
#include "model.hpp"
#include "predict.hpp"
#include "terminal.hpp"

namespace {

using namespace slipway;

constexpr const char* kVersion = "ort_infer 0.1.0";

constexpr const char* kEpilogue = R"(
FILE is a JPEG or PNG, a folder (with all its subfolders), a list (.txt, a path a line), or - for a list on stdin.
Results go to stdout, a line an image; all else to stderr.

examples:
  ort_infer work/digits/bundle seven.png
      seven.png  7 (0.998)  1 (0.001)  9 (0.001)
  ort_infer work/streets/bundle photo.jpg --out drawn/
      photo.jpg  road 45.2 %  sky 30.1 %  car 4.0 %
      drawn/photo.jpg shows the classes in colour over the photo, drawn/photo.labels.png holds the label of each pixel
  find . -name '*.png' | ort_infer work/balloons/bundle - --json --score 0.7 > predictions.jsonl
      one JSON object a line, as slipway_runtime prints it
  ort_infer work/digits/bundle photos/ --benchmark --seconds 5
      how fast graph, graph with copies, whole prediction and whole folder are

exit codes: 0 all predicted · 2 wrong arguments · 3 unreadable bundle or image (the other files are still done) ·
4 engine or device missing · 5 the graph gave values that are no finite numbers · 130 interrupted
)";

// CLI11's own range lets NaN pass.
std::string check_share(const std::string& text) {
  const double share = std::strtod(text.c_str(), nullptr);
  return share >= 0 && share <= 1 ? "" : "expected a number from 0 to 1, got '" + text + "'";
}

struct Arguments {
  std::string bundle;
  std::vector<std::string> files;
  ModelOptions model;
  PredictOptions predict;
  BenchmarkOptions benchmark;
  std::optional<double> opacity;
  bool measure = false;
  std::string timer;
};

void add_benchmark_options(CLI::App& app, Arguments& arguments, CLI::Option* json) {
  auto& benchmark = arguments.benchmark;
  auto* measure = app.add_flag("--benchmark", arguments.measure, "measure instead of predicting");
  app.add_option("--seconds", benchmark.timer.seconds, "how long each boundary is measured (default: 2)")
      ->check(CLI::PositiveNumber);
  app.add_option("--timer", arguments.timer, "all of the timer's settings, as the benchmark harness's JSON");
  app.add_option("--boundaries", benchmark.boundaries,
                 "which: model, host, e2e, folder (default: all; with --repeat-one not folder)")
      ->delimiter(',')
      ->check(CLI::IsMember({"model", "host", "e2e", "folder"}));
  app.add_flag("--answers", benchmark.answers,
               "report what the last timed calls answered, beside what is answered when none is timed")
      ->needs(measure, json);
  app.add_flag("--repeat-one", benchmark.repeat_one, "time the first image or batch alone: caching would show")
      ->needs(measure);
  app.add_flag("--stages", benchmark.stages, "report how long decode, preprocess, compute and postprocess each take")
      ->needs(measure, json);
}

void add_options(CLI::App& app, Arguments& arguments) {
  // More threads than any machine runs would only exhaust this one.
  const CLI::Range threads(1, 1024);
  auto& session = arguments.model.session;
  auto& predict = arguments.predict;
  app.add_option("BUNDLE", arguments.bundle, "a bundle's folder, or a bare model.onnx")->required();
  app.add_option("FILE", arguments.files, "images, folders, lists, or -")->required();
  app.add_option("--device", session.device, "where the graph runs: cpu, cuda, tensorrt (default: cpu)")
      ->check(CLI::IsMember({"cpu", "cuda", "tensorrt"}));
  app.add_option("--precision", arguments.model.precision,
                 "which graph of the bundle: fp32, fp16, int8 (default: fp32)")
      ->check(CLI::IsMember(std::vector<std::string>(kPrecisions.begin(), kPrecisions.end())));
  app.add_option("--threads", session.threads, "threads inside an operator, on the CPU (default: all cores)")
      ->check(threads);
  app.add_option("--workers", predict.workers, "threads that decode, preprocess and postprocess (default: all cores)")
      ->check(threads);
  app.add_option("--batch", predict.batch, "images at once (default: the graph's, else 1)")->check(CLI::PositiveNumber);
  auto* json = app.add_flag("--json", predict.json, "print one JSON object a line");
  app.add_option("--out", predict.out,
                 "write copies with the prediction drawn on them, and label maps, into this folder");
  app.add_option("--topk", arguments.model.topk, "how many classes to show (default: the bundle's)")
      ->check(CLI::PositiveNumber);
  app.add_option("--score", arguments.model.score, "show detections from here on (default: the bundle's)")
      ->check(check_share);
  app.add_option("--opacity", arguments.opacity, "of classes' and masks' colours, 0 to 1 (default: 0.5)")
      ->check(check_share);
  app.add_option("--cache", session.cache, "keep the optimised graph (tensorrt: the engine) in this folder");
  app.add_option("--inputs", predict.inputs, "write what the graph gets, C×H×W, into this folder as .npy");
  add_benchmark_options(app, arguments, json);
}

int run(const Arguments& arguments) {
  const auto sources = find_sources(arguments.files);
  const Model model(arguments.bundle, arguments.model);
  if (arguments.opacity && model.manifest().task() == "classification")
    throw UsageError("--opacity is for segmentation and detection; " + model.manifest().name + " does classification");
  if (arguments.measure) {
    auto options = arguments.benchmark;
    if (!arguments.timer.empty()) options.timer = parse_timer(arguments.timer);
    options.batch = arguments.predict.batch;
    options.workers = arguments.predict.workers;
    options.json = arguments.predict.json;
    return benchmark(model, sources, options);
  }
  auto options = arguments.predict;
  if (arguments.opacity) options.opacity = *arguments.opacity;
  return predict(model, sources, options);
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  watch_interrupts();
  cv::setNumThreads(1);  // the workers are the threads
  CLI::App app("Predict from a Slipway bundle with ONNX Runtime, without Python.");
  app.footer(kEpilogue);
  app.set_version_flag("--version", [] { return std::string(kVersion) + ", ONNX Runtime " + onnxruntime_version(); });
  Arguments arguments;
  arguments.predict.workers = arguments.model.session.threads = available_cores();
  add_options(app, arguments);
  try {
    app.parse(argc, argv);
    return run(arguments);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : UsageError("").exit_code;
  } catch (const Error& error) {
    say(std::string("error: ") + error.what());
    return error.exit_code;
  } catch (const std::bad_alloc&) {
    say("error: out of memory; give fewer images at once (--batch) or fewer --workers");
    return SessionError("").exit_code;
  } catch (const std::filesystem::filesystem_error& error) {
    say(std::string("error: ") + error.what());
    return ImageError("").exit_code;
  } catch (const std::exception& error) {  // a fault of this program
    say(std::string("error: ") + error.what());
    return 1;
  }
}
