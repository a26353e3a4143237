// What is read and written: images, alone, in folders and in lists, and where their drawings go.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "image.hpp"

namespace slipway {

// A file to predict on, and where its drawing goes below `--out`: a folder's files keep their place in it.
struct Source {
  std::filesystem::path path, name;
};

// The files that the arguments name: images, folders with all their subfolders, lists (.txt, a path a line), "-" for a
// list on stdin. Throws ImageError for a folder without an image or a list that cannot be read.
std::vector<Source> find_sources(const std::vector<std::string>& arguments);

// Where, below the folder of an option, a source's files go.
using Targets = std::function<std::vector<std::filesystem::path>(const Source&)>;

// Refuse (UsageError) to write over a file that is read, or twice to one place. `option` begins the text.
void check_targets(const std::vector<Source>& sources, const std::string& option, const std::filesystem::path& folder,
                   const Targets& targets);

// A file's content. Throws ImageError.
Bytes read_file(const std::filesystem::path& path);

// Write a file, whole or not at all. Throws UsageError for a place that cannot be written to.
void write_file(const std::filesystem::path& target, const Bytes& content);

// A float32 array as NumPy's format (.npy, version 1.0).
Bytes npy_of(const std::vector<float>& array, const std::vector<int>& shape);

}  // namespace slipway
