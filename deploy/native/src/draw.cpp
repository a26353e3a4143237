#include "draw.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <opencv2/imgproc.hpp>

namespace slipway::draw {
namespace {

constexpr int kFont = cv::FONT_HERSHEY_SIMPLEX;
constexpr Colour kBlack{0, 0, 0}, kWhite{255, 255, 255};
// A legend's line in pixels: a 25th of the image's shorter edge, but no less than what can be read.
constexpr int kLines = 25, kSmallestLine = 12;
// A box's edge in pixels: a 300th of the image's shorter edge; its text's line is a 30th.
constexpr int kEdges = 300, kBoxLines = 30;

// Halves to even, as Python's `round`.
int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

cv::Scalar bgr(Colour colour) { return {double(colour[2]), double(colour[1]), double(colour[0])}; }

bool is_light(Colour colour) { return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 128; }

// A text's size at scale 1: `height` above the line that its letters stand on, `below` under it.
struct Extent {
  int width, height, below;
};

Extent extent_of(const std::string& text) {
  int below = 0;
  const cv::Size size = cv::getTextSize(text, kFont, 1.0, 1, &below);
  return {size.width, size.height, below};
}

void fill(cv::Mat& canvas, cv::Point first, cv::Point last, Colour colour) {
  cv::rectangle(canvas, first, last, bgr(colour), cv::FILLED);
}

void write(cv::Mat& canvas, const std::string& text, cv::Point at, double scale, Colour colour) {
  cv::putText(canvas, text, at, kFont, scale, bgr(colour), std::max(1, rounded(1.5 * scale)), cv::LINE_AA);
}

// What a box's coordinate is as a pixel's, within one of the image's edge: OpenCV's edges go around pixel centres, and
// its numbers have 32 bits.
int edge(float at, int size) { return rounded(std::min(std::max(double{at} - 0.5, -1.0), double(size))); }

// A box's text on the box's colour: above the box, or inside where there is no room, and within the image.
void caption(cv::Mat& canvas, cv::Point corner, const std::string& text, Colour colour) {
  const auto [text_width, text_height, below] = extent_of(text);
  const int wanted = std::max(kSmallestLine, std::min(canvas.rows, canvas.cols) / kBoxLines);
  const double scale = std::min({wanted * 0.6 / text_height, double(canvas.cols) / (text_width + text_height),
                                 double(canvas.rows) / (text_height + 2 * below)});
  const int line = rounded(scale * (text_height + 2 * below)), across = rounded(scale * (text_width + text_height));
  const int left = std::max(0, std::min(corner.x, canvas.cols - across));
  const int bottom = std::min(corner.y >= line ? corner.y : corner.y + line, canvas.rows);
  fill(canvas, {left, bottom - line}, {left + across, bottom}, colour);
  const cv::Point at(left + rounded(scale * text_height / 2), bottom - rounded(scale * below));
  write(canvas, text, at, scale, is_light(colour) ? kBlack : kWhite);
}

}  // namespace

cv::Mat label(const cv::Mat& image, const std::string& text) {
  // As wide as the image at most and a tenth of its height; the font has ASCII only, the rest shows as ?.
  const auto [text_width, text_height, below] = extent_of(text);
  const double scale = std::min(image.rows / 10.0 / text_height, double(image.cols) / text_width);
  cv::Mat canvas = image.clone();
  fill(canvas, {0, 0}, {rounded(text_width * scale), rounded((text_height + 2 * below) * scale)}, kBlack);
  write(canvas, text, {0, rounded((text_height + below) * scale)}, scale, kWhite);
  return canvas;
}

cv::Mat overlay(const cv::Mat& image, const cv::Mat& label_map, std::span<const Colour> palette, double opacity) {
  cv::Mat table = cv::Mat::zeros(256, 1, CV_8UC3);
  for (std::size_t label = 0; label < palette.size(); ++label) {
    const auto [red, green, blue] = palette[label];
    table.at<cv::Vec3b>(static_cast<int>(label)) = {blue, green, red};
  }
  cv::Mat mixed;
  cv::applyColorMap(label_map, mixed, table);
  cv::addWeighted(image, 1 - opacity, mixed, opacity, 0, mixed);
  return mixed;
}

cv::Mat legend(const cv::Mat& image, std::vector<std::pair<std::string, Colour>> entries) {
  // As wide as the image and half as high at most; of more names the first are listed.
  int line = std::max(kSmallestLine, std::min(image.rows, image.cols) / kLines);
  const auto room = static_cast<std::size_t>(std::max(1, image.rows / 2 / line));
  if (entries.size() > room) {
    const std::string more = "+" + std::to_string(entries.size() - room + 1) + " more";
    entries.resize(room - 1);
    entries.emplace_back(more, kBlack);
  }
  double widest = 0;
  for (const auto& [name, colour] : entries) widest = std::max(widest, double(extent_of(name).width));
  const int text_height = extent_of("Hg").height;
  const double fitting = double(image.cols) * line / (1.5 * line + widest * line * 0.6 / text_height);
  line = std::min(line, std::max(1, static_cast<int>(fitting)));
  const double scale = line * 0.6 / text_height;
  cv::Mat canvas = image.clone();
  fill(canvas, {0, 0}, {rounded(1.5 * line + widest * scale), static_cast<int>(entries.size()) * line}, kBlack);
  int top = 0;
  const int inset = std::max(1, line / 6);
  for (const auto& [name, colour] : entries) {
    fill(canvas, {inset, top + inset}, {line - inset, top + line - inset}, colour);
    write(canvas, name, {rounded(1.2 * line), top + rounded(0.8 * line)}, scale, kWhite);
    top += line;
  }
  return canvas;
}

void tint(cv::Mat& canvas, const cv::Mat& mask, Colour colour, double opacity) {
  // What becomes of each value of each channel; in float32, halves to even.
  const float ours = static_cast<float>(opacity), rest = static_cast<float>(1 - opacity);
  std::array<std::array<std::uint8_t, 256>, 3> mixed{};
  for (std::size_t channel = 0; channel < 3; ++channel)
    for (std::size_t value = 0; value < 256; ++value)
      mixed[channel][value] = static_cast<std::uint8_t>(
          std::nearbyint(static_cast<float>(value) * rest + static_cast<float>(colour[2 - channel]) * ours));
  for (int row = 0; row < canvas.rows; ++row) {
    const auto* inside = mask.ptr<std::uint8_t>(row);
    auto* pixel = canvas.ptr<cv::Vec3b>(row);
    for (const auto* const end = pixel + canvas.cols; pixel != end; ++pixel, ++inside)
      if (*inside) *pixel = {mixed[0][(*pixel)[0]], mixed[1][(*pixel)[1]], mixed[2][(*pixel)[2]]};
  }
}

void box(cv::Mat& canvas, std::span<const float, 4> corners, const std::string& text, Colour colour) {
  const cv::Point first(edge(corners[0], canvas.cols), edge(corners[1], canvas.rows));
  const cv::Point last(edge(corners[2], canvas.cols), edge(corners[3], canvas.rows));
  const int thickness = std::max(1, rounded(double(std::min(canvas.rows, canvas.cols)) / kEdges));
  cv::rectangle(canvas, first, last, bgr(colour), thickness);
  caption(canvas, first, text, colour);
}

}  // namespace slipway::draw
