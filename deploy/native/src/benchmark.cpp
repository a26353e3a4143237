#include "benchmark.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <set>

#include "answers.hpp"
#include "error.hpp"
#include "machine.hpp"
#include "pipeline.hpp"
#include "rotation.hpp"
#include "stages.hpp"
#include "terminal.hpp"

namespace slipway {
namespace {

// Rounds over the folder, at least.
constexpr std::size_t kLeastRounds = 3;

// One of the calls that take turns.
struct Turn {
  std::function<void()> call;
  std::function<void(Json& report)> answer;  // after the last one: add what it answered
};

class Benchmark {
 public:
  Benchmark(const Model& model, const std::vector<Source>& sources, const BenchmarkOptions& options)
      : model_(model),
        options_(options),
        batch_(static_cast<std::size_t>(model.batch_size(options.batch))),
        rotation_(model, sources) {}

  Json measure() {
    Json report;
    for (const auto& boundary : options_.boundaries) {
      show_progress(boundary + " …");
      if (boundary == "folder")
        report["folder"] = folder();
      else
        time(boundary, report);
    }
    if (options_.stages) {
      show_progress("stages …");
      const auto images = options_.repeat_one ? 1 : rotation_.count();
      report.update(time_stages(model_, rotation_, images, options_.timer));
    }
    show_progress("");
    return report;
  }

 private:
  void time(const std::string& boundary, Json& report) const {
    std::set<std::pair<int, int>> sizes;
    auto turns = boundary == "e2e" ? from_images(sizes) : from_tensors(boundary == "model", sizes);
    auto& row = report["boundaries"][boundary];
    if (turns.empty()) {
      row = {{"invalid", "no " + std::to_string(batch_) + " images of one size for a batch"}};
      return;
    }
    std::vector<std::function<void()>> calls;
    for (const auto& turn : turns)
      calls.push_back([call = turn.call] {
        stop_if_interrupted();
        call();
      });
    const auto timing = slipway::measure(calls, options_.timer);
    row = {{"samples_us", timing.samples_us}, {"wall_s", timing.wall_s}, {"warmup_us", timing.warmup_us}};
    row["invalid"] = timing.invalid ? Json(*timing.invalid) : Json();
    row["sizes"] = sizes;
    if (options_.answers)
      for (const auto& turn : turns) turn.answer(report);
  }

  // How many of so many batches take turns.
  std::size_t turns_of(std::size_t batches) const {
    return options_.repeat_one ? std::min<std::size_t>(batches, 1) : batches;
  }

  // From encoded images to predictions: whole batches, or the only one.
  std::vector<Turn> from_images(std::set<std::pair<int, int>>& sizes) const {
    std::vector<Turn> turns;
    const auto batches = turns_of(std::max<std::size_t>(rotation_.count() / batch_, 1));
    for (std::size_t start = 0; turns.size() < batches; start += batch_) {
      const auto stop = std::min(start + batch_, rotation_.count());
      const auto results = std::make_shared<std::vector<std::unique_ptr<Result>>>();
      turns.push_back({[this, start, stop, results] { predict(start, stop, *results); },
                       [this, start, results](Json& report) {
                         for (std::size_t i = 0; i < results->size(); ++i) {
                           const auto& result = *(*results)[i];
                           report["answers"]["e2e"].push_back(json_line(rotation_.name(start + i), result));
                           const auto labels = result.labels();
                           if (!labels.empty()) report["answers"]["label_maps"].push_back(hash_of(labels));
                         }
                       }});
    }
    for (const auto& prepared : std::span(rotation_.prepared()).first(std::min(batches * batch_, rotation_.count())))
      sizes.emplace(prepared.original.height, prepared.original.width);
    return turns;
  }

  // From the graph's inputs to its outputs, on the device or on the host.
  std::vector<Turn> from_tensors(bool on_device, std::set<std::pair<int, int>>& sizes) const {
    auto groups = rotation_.groups_of_one_shape(batch_);
    groups.resize(turns_of(groups.size()));
    std::vector<Turn> turns;
    for (const auto& group : groups) {
      const auto input = model_.task().first_input(group);
      sizes.emplace(input.size.height, input.size.width);
      turns.push_back(on_device ? bound(input) : from_host(input));
    }
    return turns;
  }

  Turn bound(const Batch& input) const {
    const auto bound = model_.session().bind(input, options_.answers);
    return {bound.run, [this, input, bound](Json& report) { add_answer(report, "model", bound.answer(), input); }};
  }

  Turn from_host(const Batch& input) const {
    const auto outputs = std::make_shared<Outputs>();
    return {[this, input, outputs] {
              auto found = model_.session().run(input);
              if (options_.answers) *outputs = std::move(found);
            },
            [this, input, outputs](Json& report) { add_answer(report, "host", *outputs, input); }};
  }

  // What was answered while a clock ran, and what is answered now that none does.
  void add_answer(Json& report, const char* boundary, const Outputs& outputs, const Batch& input) const {
    report["answers"][boundary].push_back(hashes_of(outputs));
    report["expected"][boundary].push_back(hashes_of(model_.session().run(input)));
  }

  // Decode, preprocess, run, finish: one after the other. `results` are those of the last call, where answers are
  // wanted.
  void predict(std::size_t start, std::size_t stop, std::vector<std::unique_ptr<Result>>& results) const {
    results.clear();
    std::vector<Prepared> prepared;
    for (auto index = start; index < stop; ++index) prepared.push_back(rotation_.prepare(index));
    for (const auto& group : batches_of(prepared, batch_)) {
      const auto outputs = model_.run(group);
      for (std::size_t i = 0; i < group.size(); ++i) {
        auto result = model_.task().finish(outputs, i, *group[i]);
        if (!options_.answers) {
          result->settle();
          continue;
        }
        result->keep();
        results.push_back(std::move(result));
      }
    }
  }

  // Rounds over all images by turns: the graph alone, and files → predictions with all stages at once.
  Json folder() const {
    ThreadPool workers(options_.workers);
    std::vector<double> bare, whole;
    double seconds = 0;
    run_graph();
    run_folder(workers);
    while (seconds < 2 * options_.timer.seconds || bare.size() < kLeastRounds) {
      bare.push_back(seconds_of([&] { run_graph(); }));
      whole.push_back(seconds_of([&] { run_folder(workers); }));
      seconds += bare.back() + whole.back();
    }
    return {{"images", rotation_.count()}, {"graph_s", bare}, {"whole_s", whole}};
  }

  static double seconds_of(const std::function<void()>& call) {
    stop_if_interrupted();
    const auto start = steady_ns();
    call();
    return static_cast<double>(steady_ns() - start) / 1e9;
  }

  void run_graph() const {
    for (const auto& group : batches_of(rotation_.prepared(), batch_)) model_.run(group);
  }

  void run_folder(ThreadPool& workers) const {
    const Stages stages{[&](std::size_t index) -> Item {
                          const auto& name = rotation_.name(index);
                          return {preprocess(decode(read_file(name), name), model_.manifest().preprocess, name), {}};
                        },
                        [](std::size_t, const Item&, const Result& result) {
                          result.settle();
                          return std::string();
                        },
                        [](std::size_t, const std::string&) {},
                        [](std::size_t, const ImageError& error) { throw error; }, [] { return false; }};
    const auto batch = static_cast<int>(std::min(batch_, rotation_.count()));
    run_pipeline(model_, workers, rotation_.count(), batch, batch + options_.workers, stages);
  }

  const Model& model_;
  const BenchmarkOptions& options_;
  const std::size_t batch_;
  const Rotation rotation_;
};

void print_table(const Json& report, std::size_t batch) {
  std::printf("%-9s %10s %10s %10s %9s\n", "boundary", "median ms", "p90 ms", "images/s", "samples");
  if (report.contains("boundaries")) {
    for (const auto& [name, row] : report["boundaries"].items()) {
      if (row.contains("samples_us")) {
        const auto samples = row["samples_us"].get<std::vector<double>>();
        const auto rate = static_cast<double>(samples.size() * batch) / row["wall_s"].get<double>();
        std::printf("%-9s %10.2f %10.2f %10.1f %9zu\n", name.c_str(), quantile(samples, 0.5) / 1e3,
                    quantile(samples, 0.9) / 1e3, rate, samples.size());
      }
      if (!row["invalid"].is_null())
        std::printf("%-9s INVALID: %s\n", name.c_str(), row["invalid"].get<std::string>().c_str());
    }
  }
  if (report.contains("folder")) {
    const auto& folder = report["folder"];
    const auto graph = quantile(folder["graph_s"], 0.5), whole = quantile(folder["whole_s"], 0.5);
    std::printf("folder    %.1f images/s from file to prediction, %.3f times the graph's own time\n",
                folder["images"].get<double>() / whole, whole / graph);
  }
  std::printf("peak memory %.0f MiB\n", report["peak_rss_mib"].get<double>());
}

BenchmarkOptions checked(const Model& model, BenchmarkOptions options) {
  if (options.boundaries.empty()) {
    options.boundaries = {"model", "host", "e2e"};
    if (!options.repeat_one) options.boundaries.emplace_back("folder");
  }
  const auto wants = [&](const char* boundary) { return std::ranges::count(options.boundaries, boundary) > 0; };
  if (options.repeat_one && wants("folder"))
    throw UsageError("--repeat-one: 'folder' goes through all images; give --boundaries without it");
  if (options.answers && model.session().on_gpu() && wants("model"))
    throw UsageError("--answers: what 'model' computes stays on the GPU; give --boundaries host,e2e");
  return options;
}

}  // namespace

int benchmark(const Model& model, const std::vector<Source>& sources, const BenchmarkOptions& given) {
  const auto options = checked(model, given);
  try {
    auto report = Benchmark(model, sources, options).measure();
    report["peak_rss_mib"] = peak_rss_mib();
    report["onnxruntime"] = onnxruntime_version();
    if (options.json)
      std::printf("%s\n", report.dump().c_str());
    else
      print_table(report, static_cast<std::size_t>(model.batch_size(options.batch)));
    if (std::fflush(stdout)) throw ImageError(std::string("stdout: cannot be written (") + std::strerror(errno) + ")");
    return 0;
  } catch (const Interrupted&) {
    say("interrupted");
    return 130;
  }
}

}  // namespace slipway
