// Images through the model with all stages at once: while the graph runs on one batch, workers decode and preprocess
// the next images and make predictions of the last outputs.
#pragma once

#include <functional>
#include <opencv2/core.hpp>
#include <string>

#include "error.hpp"
#include "model.hpp"
#include "thread_pool.hpp"

namespace slipway {

// An image on its way: what the graph takes, and the image itself where something is drawn on it.
struct Item {
  Prepared prepared;
  cv::Mat image;
};

// What is done at each stage. `load` and `finish` are called by workers, several at once; the others by the caller's
// thread, in the images' order.
struct Stages {
  std::function<Item(std::size_t)> load;  // may throw ImageError
  std::function<std::string(std::size_t, const Item&, const Result&)> finish;
  std::function<void(std::size_t, const std::string&)> done;   // with what `finish` returned
  std::function<void(std::size_t, const ImageError&)> failed;  // in place of `done`
  std::function<bool()> stop;                                  // asked between batches
};

// Put `count` images through the model, in batches of `batch` at most; images that differ in size after preprocessing
// are never in one batch. Whatever but ImageError is thrown by a stage ends the run and comes out here.
void run_pipeline(const Model& model, ThreadPool& workers, std::size_t count, int batch, int ahead,
                  const Stages& stages);

}  // namespace slipway
