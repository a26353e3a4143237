// JPEG by libjpeg.
#pragma once

#include <cstdint>
#include <opencv2/core.hpp>
#include <span>
#include <string>

#include "image.hpp"

namespace slipway {

bool is_jpeg(std::span<const std::uint8_t> data);

// Decode to CV_8UC3 BGR, EXIF orientation applied; an empty image where the data is no whole JPEG. Throws ImageError,
// which begins with `name`, for too many pixels or scans.
cv::Mat decode_jpeg(std::span<const std::uint8_t> data, const std::string& name);

// Encode CV_8UC3 BGR, quality 95. Throws ImageError, which begins with `name`, for an image larger than a JPEG can be.
Bytes encode_jpeg(const cv::Mat& image, const std::string& name);

}  // namespace slipway
