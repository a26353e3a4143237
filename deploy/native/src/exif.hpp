// EXIF: which way up an image is to be shown.
#pragma once

#include <cstdint>
#include <opencv2/core.hpp>
#include <optional>
#include <span>

namespace slipway {

// The orientation that an EXIF block gives, which begins with its byte order; nothing where it gives none. A damaged
// block is read as far as OpenCV's own reader goes.
std::optional<int> exif_orientation(std::span<const std::uint8_t> block);

// Turn an image the way up that its orientation, 1 to 8, says; any other number says nothing.
void apply_orientation(cv::Mat& image, int orientation);

}  // namespace slipway
