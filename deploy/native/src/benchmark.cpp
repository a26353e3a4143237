#include "benchmark.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <map>
#include <set>

#include "error.hpp"
#include "machine.hpp"
#include "pipeline.hpp"
#include "terminal.hpp"

namespace slipway {
namespace {

using Call = std::function<void()>;
using Group = std::vector<const Prepared*>;

// Images are read up to this number and this many floats of prepared arrays: 512 MiB.
constexpr std::size_t kMostImages = 256, kMostFloats = std::size_t{1} << 27;

// Rounds over the folder, at least.
constexpr std::size_t kLeastRounds = 3;

struct Interrupted {};

class Benchmark {
 public:
  Benchmark(const Model& model, const std::vector<Source>& sources, const BenchmarkOptions& options)
      : model_(model), options_(options), batch_(static_cast<std::size_t>(model.batch_size(options.batch))) {
    std::size_t floats = 0;
    for (const auto& source : sources) {
      if (prepared_.size() == kMostImages || floats > kMostFloats) break;
      names_.push_back(source.path.string());
      encoded_.push_back(read_file(source.path));
      prepared_.push_back(prepare(encoded_.size() - 1));
      floats += prepared_.back().array.size();
    }
  }

  Json measure() {
    Json report;
    for (const auto& boundary : options_.boundaries) {
      show_progress(boundary + " …");
      if (boundary == "folder")
        report["folder"] = folder();
      else
        report["boundaries"][boundary] = timed(boundary);
    }
    show_progress("");
    return report;
  }

 private:
  Prepared prepare(std::size_t index) const {
    return preprocess(decode(encoded_[index], names_[index]), model_.manifest().preprocess, names_[index]);
  }

  Json timed(const std::string& boundary) const {
    std::vector<Call> calls;
    std::set<std::pair<int, int>> sizes;
    if (boundary == "e2e") {
      // Whole batches, or the only one.
      for (std::size_t start = 0; start == 0 || start + batch_ <= encoded_.size(); start += batch_)
        calls.push_back([this, start] { predict(start, std::min(start + batch_, encoded_.size())); });
      for (const auto& prepared : prepared_) sizes.emplace(prepared.original.height, prepared.original.width);
    } else {
      for (const auto& group : groups_of_one_shape()) {
        const auto input = model_.task().first_input(group);
        sizes.emplace(input.size.height, input.size.width);
        calls.push_back(boundary == "model" ? model_.session().bind(input)
                                            : [this, input] { model_.session().run(input); });
      }
    }
    if (calls.empty()) return {{"invalid", "no " + std::to_string(batch_) + " images of one size for a batch"}};
    for (auto& call : calls)
      call = [call] {
        if (interrupted()) throw Interrupted();
        call();
      };
    const auto timing = slipway::measure(calls, options_.timer);
    Json report{{"samples_us", timing.samples_us}, {"wall_s", timing.wall_s}, {"warmup_us", timing.warmup_us}};
    report["invalid"] = timing.invalid ? Json(*timing.invalid) : Json();
    report["sizes"] = sizes;
    return report;
  }

  // Every `batch_` images that the graph sees in one shape, in the order in which they are complete.
  std::vector<Group> groups_of_one_shape() const {
    std::map<std::pair<int, int>, Group> waiting;
    std::vector<Group> groups;
    for (const auto& prepared : prepared_) {
      auto& group = waiting[{prepared.size.height, prepared.size.width}];
      group.push_back(&prepared);
      if (group.size() == batch_) groups.push_back(std::exchange(group, {}));
    }
    return groups;
  }

  void finish(const Outputs& outputs, const Group& group) const {
    for (std::size_t i = 0; i < group.size(); ++i) model_.task().finish(outputs, i, *group[i])->settle();
  }

  // As the pipeline batches them: neighbours of one shape, `batch_` at most.
  std::vector<Group> batches_of(const std::vector<Prepared>& images) const {
    std::vector<Group> batches;
    for (const auto& one : images) {
      if (batches.empty() || batches.back().size() == batch_ || !batches.back()[0]->same_shape(one))
        batches.emplace_back();
      batches.back().push_back(&one);
    }
    return batches;
  }

  // Decode, preprocess, run, finish: one after the other.
  void predict(std::size_t start, std::size_t stop) const {
    std::vector<Prepared> prepared;
    for (auto index = start; index < stop; ++index) prepared.push_back(prepare(index));
    for (const auto& group : batches_of(prepared)) finish(model_.run(group), group);
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
    return {{"images", encoded_.size()}, {"graph_s", bare}, {"whole_s", whole}};
  }

  static double seconds_of(const Call& call) {
    if (interrupted()) throw Interrupted();
    const auto start = steady_ns();
    call();
    return static_cast<double>(steady_ns() - start) / 1e9;
  }

  void run_graph() const {
    for (const auto& group : batches_of(prepared_)) model_.run(group);
  }

  void run_folder(ThreadPool& workers) const {
    const Stages stages{[&](std::size_t index) -> Item {
                          const auto& name = names_[index];
                          return {preprocess(decode(read_file(name), name), model_.manifest().preprocess, name), {}};
                        },
                        [](std::size_t, const Item&, const Result& result) {
                          result.settle();
                          return std::string();
                        },
                        [](std::size_t, const std::string&) {},
                        [](std::size_t, const ImageError& error) { throw error; }, [] { return false; }};
    const auto batch = static_cast<int>(std::min(batch_, names_.size()));
    run_pipeline(model_, workers, names_.size(), batch, batch + options_.workers, stages);
  }

  const Model& model_;
  const BenchmarkOptions& options_;
  const std::size_t batch_;
  std::vector<std::string> names_;
  std::vector<Bytes> encoded_;
  std::vector<Prepared> prepared_;
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

}  // namespace

int benchmark(const Model& model, const std::vector<Source>& sources, const BenchmarkOptions& options) {
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
