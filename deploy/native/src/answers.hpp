// What the program answers, as text: a line an image, and hashes of arrays for comparing them elsewhere.
#pragma once

#include <string>

#include "task.hpp"
#include "tensor.hpp"

namespace slipway {

// The line of JSON for an image of that name, without its end.
std::string json_line(const std::string& name, const Result& result);

// Each output's name → the SHA-256 of its elements as they lie in memory: C order, little-endian, float16 as float32.
Json hashes_of(const Outputs& outputs);

// The SHA-256 of a label map's bytes, row by row.
std::string hash_of(const cv::Mat& labels);

}  // namespace slipway
