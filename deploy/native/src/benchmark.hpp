// `--benchmark`: how fast the model is here, at the boundaries of the benchmark harness and on a whole folder.
#pragma once

#include <string>
#include <vector>

#include "files.hpp"
#include "model.hpp"
#include "timing.hpp"

namespace slipway {

struct BenchmarkOptions {
  TimerSettings timer;
  // "model": tensor on the device → outputs on the device; "host": host tensor → host outputs; "e2e": encoded image →
  // final prediction, one after the other; "folder": files → final predictions with all stages at once, against the
  // graph alone on the same images.
  std::vector<std::string> boundaries;  // empty: all, with `repeat_one` all but "folder"
  bool answers = false;     // add what the last timed calls answered, and what the same inputs give when none is timed
  bool repeat_one = false;  // time the first input alone: a cache of answers would show
  bool stages = false;      // add the time of each stage of an image's way
  int batch = 0;            // 0: the graph's, else 1
  int workers = 1;
  bool json = false;
};

// Measure and print; returns the exit code. Throws ImageError for an image that cannot be read, UsageError for options
// that exclude each other.
int benchmark(const Model& model, const std::vector<Source>& sources, const BenchmarkOptions& options);

}  // namespace slipway
