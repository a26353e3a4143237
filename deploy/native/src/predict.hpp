// Predict on files: results on stdout, a line an image; drawings where they are asked for.
#pragma once

#include <filesystem>
#include <vector>

#include "files.hpp"
#include "model.hpp"

namespace slipway {

struct PredictOptions {
  int batch = 0;    // 0: the graph's, else 1
  int workers = 1;  // threads that decode, preprocess and make predictions of outputs
  bool json = false;
  double opacity = 0.5;
  std::filesystem::path out;     // of drawings; empty: none
  std::filesystem::path inputs;  // of what the graph gets, as .npy; empty: none
};

// Returns the exit code: 0, that of ImageError where an image could not be read (the others are done), or 130 after
// Ctrl-C (what was printed and written by then is whole). Throws what `Model` and `write_file` throw.
int predict(const Model& model, const std::vector<Source>& sources, const PredictOptions& options);

}  // namespace slipway
