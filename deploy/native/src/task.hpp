// Tasks: what becomes of a graph's outputs. One file a task, named like the manifest's `postprocess.task`.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <opencv2/core.hpp>
#include <span>
#include <string>
#include <vector>

#include "image.hpp"
#include "manifest.hpp"
#include "preprocess.hpp"
#include "tensor.hpp"

namespace slipway {

using Json = nlohmann::ordered_json;

// The prediction for one image: the same values, texts and drawings as the `Result` of `slipway_runtime.tasks`.
class Result {
 public:
  virtual ~Result() = default;
  // The keys of `slipway_runtime`'s `to_dict`, in its order; floats are float32 values as doubles, as Python's `float`.
  virtual Json to_json() const = 0;
  // The result for a person, in one line.
  virtual std::string line() const = 0;
  // A copy of the image, CV_8UC3 BGR, with the result drawn on it. `opacity`, 0 to 1, is that of colours over the
  // image.
  virtual cv::Mat draw(const cv::Mat& image, double opacity) const = 0;
  // Compute what is shown but computed only when it is asked for, so that a clock sees all of the work.
  virtual void settle() const {}
  // Likewise, and keep it for `to_json`.
  virtual void keep() {}
  // The label of each pixel, CV_8UC1, where that is the prediction; else empty.
  virtual cv::Mat labels() const { return {}; }
  // What is written beside a drawing: the ending of the file's name → its content.
  virtual std::map<std::string, Bytes> beside() const { return {}; }
};

// A batch for the graph: N arrays, C×H×W each, of one shape.
struct Batch {
  std::vector<const float*> arrays;
  int channels = 3;
  cv::Size size;  // width and height of each array
  // How many floats lie between two rows and two channels of an array; contiguous arrays have `size.width` and
  // `size.area()`. A window of a larger array has that array's.
  std::size_t row_stride = 0, plane_stride = 0;
};

// Puts a batch through the graph; the outputs' first axis has one entry an array.
using Run = std::function<Outputs(const Batch&)>;

// Puts prepared images through the graph and makes predictions of what it gives. Thread-safe: `finish` is called by
// several threads while the next `run` goes on.
class Task {
 public:
  virtual ~Task() = default;
  // Put images whose arrays have one shape through the graph.
  virtual Outputs run(std::span<const Prepared* const> batch, const Run& run) const;
  // The result of the image at `index` of the batch that `outputs` belongs to.
  virtual std::unique_ptr<Result> finish(const Outputs& outputs, std::size_t index, const Prepared& prepared) const = 0;
  // Endings of what its results' `beside` holds.
  virtual std::vector<std::string> beside() const { return {}; }
  // What goes through the graph first for one image: its array, or the first window that is cut out of it.
  virtual Batch first_input(std::span<const Prepared* const> batch) const;
};

// The task of a manifest, which outlives it.
std::unique_ptr<Task> make_task(const Manifest& manifest);

std::unique_ptr<Task> make_classification(const Manifest& manifest, const ClassificationOutput& output);
std::unique_ptr<Task> make_segmentation(const Manifest& manifest, const SegmentationOutput& output);
std::unique_ptr<Task> make_detection(const Manifest& manifest, const DetectionOutput& output);

}  // namespace slipway
