#include "resize.hpp"

#include <algorithm>
#include <cmath>

namespace slipway {
namespace {

// How far apart in the source two neighbouring positions of the target lie.
float step_of(int source, int target, bool align_corners) {
  if (!align_corners) return static_cast<float>(source) / static_cast<float>(target);
  return target > 1 ? static_cast<float>(source - 1) / static_cast<float>(target - 1) : 0.F;
}

// The compiler vectorises this only where it knows that nothing overlaps.
void mix_row(const float* __restrict from, const Taps& taps, float* __restrict to) {
  const auto width = taps.weight.size();
  const int* __restrict lower = taps.lower.data();
  const int* __restrict upper = taps.upper.data();
  const float* __restrict weight = taps.weight.data();
  for (std::size_t x = 0; x < width; ++x) to[x] = from[lower[x]] * (1.F - weight[x]) + from[upper[x]] * weight[x];
}

cv::Mat mix_columns(const cv::Mat& plane, const Taps& taps) {
  cv::Mat mixed(plane.rows, static_cast<int>(taps.weight.size()), CV_32F);
  for (int y = 0; y < plane.rows; ++y) mix_row(plane.ptr<float>(y), taps, mixed.ptr<float>(y));
  return mixed;
}

// Rows `start` to `stop` of the target, of a plane that holds the source's rows from `first` on.
cv::Mat mix_rows(const cv::Mat& plane, const Taps& taps, int first, int start, int stop) {
  cv::Mat mixed(stop - start, plane.cols, CV_32F);
  for (int y = start; y < stop; ++y) {
    const auto* lower = plane.ptr<float>(taps.lower[y] - first);
    const auto* upper = plane.ptr<float>(taps.upper[y] - first);
    auto* to = mixed.ptr<float>(y - start);
    const float weight = taps.weight[y], rest = 1.F - weight;
    const int width = plane.cols;
    for (int x = 0; x < width; ++x) to[x] = lower[x] * rest + upper[x] * weight;
  }
  return mixed;
}

}  // namespace

Taps Taps::between(int source, int target, bool align_corners) {
  const float step = step_of(source, target, align_corners);
  Taps taps;
  for (int i = 0; i < target; ++i) {
    const auto at = static_cast<float>(i);
    const float x = align_corners ? step * at : std::max(0.F, std::fma(step, at + 0.5F, -0.5F));
    const int lower = std::min(static_cast<int>(x), source - 1);
    taps.lower.push_back(lower);
    taps.upper.push_back(std::min(lower + 1, source - 1));
    taps.weight.push_back(std::clamp(x - static_cast<float>(lower), 0.F, 1.F));
  }
  return taps;
}

PlaneResize::PlaneResize(cv::Size from, cv::Size to, bool align_corners)
    : source(from),
      target(to),
      rows_(Taps::between(from.height, to.height, align_corners)),
      columns_(Taps::between(from.width, to.width, align_corners)) {}

cv::Range PlaneResize::needs(int start, int stop) const { return {rows_.lower[start], rows_.upper[stop - 1] + 1}; }

cv::Mat PlaneResize::rows(const cv::Mat& plane, int first, int start, int stop) const {
  const cv::Mat wide = source.width == target.width ? plane : mix_columns(plane, columns_);
  if (source.height == target.height) return wide.rowRange(start - first, stop - first);
  return mix_rows(wide, rows_, first, start, stop);
}

cv::Mat resized_rows(const cv::Mat& plane, std::span<const PlaneResize> steps, int start, int stop) {
  if (steps.empty()) return plane.rowRange(start, stop);
  const auto& last = steps.back();
  const auto needed = last.needs(start, stop);
  const cv::Mat before = resized_rows(plane, steps.first(steps.size() - 1), needed.start, needed.end);
  return last.rows(before.colRange(0, last.source.width), needed.start, start, stop);
}

}  // namespace slipway
