#include "files.hpp"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <map>
#include <set>

#include "error.hpp"

namespace slipway {

namespace fs = std::filesystem;

namespace {

// What a folder is searched for; of these, `decode` refuses all but JPEG and PNG, by name.
constexpr std::array<std::string_view, 7> kSuffixes{".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"};

bool is_image(const fs::path& path) {
  auto suffix = path.extension().string();
  std::transform(suffix.begin(), suffix.end(), suffix.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kSuffixes.begin(), kSuffixes.end(), suffix) != kSuffixes.end();
}

void add_folder(const fs::path& folder, std::vector<Source>& sources) {
  std::vector<fs::path> below;
  std::error_code error;
  const auto options = fs::directory_options::skip_permission_denied;
  for (fs::recursive_directory_iterator at(folder, options, error), end; at != end; at.increment(error)) {
    std::error_code unreadable;
    if (is_image(at->path()) && at->is_regular_file(unreadable)) below.push_back(at->path());
    if (error) break;
  }
  if (error) throw ImageError(folder.string() + ": cannot be searched (" + error.message() + ")");
  if (below.empty()) {
    throw ImageError(folder.string() + ": nothing in this folder to predict on; expected files in .jpeg, .jpg, .png");
  }
  std::sort(below.begin(), below.end());
  for (const auto& file : below) sources.push_back({file, file.lexically_relative(folder)});
}

void add_list(std::istream& list, std::vector<Source>& sources) {
  for (std::string line; std::getline(list, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (!line.empty()) sources.push_back({line, fs::path(line).filename()});
  }
}

}  // namespace

std::vector<Source> find_sources(const std::vector<std::string>& arguments) {
  std::vector<Source> sources;
  for (const auto& argument : arguments) {
    const fs::path path(argument);
    if (argument == "-") {
      add_list(std::cin, sources);
    } else if (fs::is_directory(path)) {
      add_folder(path, sources);
    } else if (path.extension() == ".txt" && fs::is_regular_file(path)) {
      std::ifstream list(path);
      if (!list) throw ImageError(argument + ": cannot be read as a list of images (" + std::strerror(errno) + ")");
      add_list(list, sources);
    } else {
      sources.push_back({path, path.filename()});
    }
  }
  if (sources.empty()) throw ImageError("no image to predict on: the list is empty");
  return sources;
}

void check_targets(const std::vector<Source>& sources, const std::string& option, const fs::path& folder,
                   const Targets& targets) {
  const auto where = option + " " + folder.string();
  std::set<fs::path> read;
  for (const auto& source : sources) read.insert(fs::weakly_canonical(source.path));
  std::map<fs::path, fs::path> taken;
  for (const auto& source : sources) {
    for (const auto& name : targets(source)) {
      const auto target = fs::weakly_canonical(folder / name);
      if (read.contains(target))
        throw UsageError(where + " would overwrite " + (folder / name).string() + "; give another folder");
      const auto [at, fresh] = taken.emplace(target, source.path);
      if (!fresh) {
        throw UsageError(where + ": " + at->second.string() + " and " + source.path.string() + " would both become " +
                         name.string() + "; predict them apart");
      }
    }
  }
}

Bytes read_file(const fs::path& path) {
  const auto refuse = [&](int error) {
    throw ImageError(path.string() + ": cannot be read as an image file (" + std::strerror(error) + ")");
  };
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) refuse(EISDIR);
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file) refuse(errno ? errno : ENOENT);
  Bytes content;
  std::array<char, 1 << 16> chunk;
  while (file) {
    file.read(chunk.data(), chunk.size());
    content.insert(content.end(), chunk.begin(), chunk.begin() + file.gcount());
  }
  if (file.bad()) refuse(EIO);
  return content;
}

void write_file(const fs::path& target, const Bytes& content) {
  // The process's number: two runs that write to one place must not write to one temporary file.
  const auto temporary =
      target.parent_path() / ("." + target.filename().string() + "." + std::to_string(getpid()) + ".tmp");
  std::error_code error;
  fs::create_directories(target.parent_path(), error);
  if (!error) {
    errno = 0;
    std::ofstream file(temporary, std::ios::binary);
    file.write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
    file.close();
    if (!file) error.assign(errno ? errno : EIO, std::generic_category());
  }
  if (!error) fs::rename(temporary, target, error);
  if (error) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw UsageError(target.string() + ": cannot be written (" + error.message() + ")");
  }
}

Bytes npy_of(const std::vector<float>& array, const std::vector<int>& shape) {
  static_assert(std::endian::native == std::endian::little);
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (";
  for (const auto size : shape) header += std::to_string(size) + ", ";
  header += "), }";
  // Magic, version and length are 10 bytes; with them the header ends on a multiple of 64.
  header.append(64 - (10 + header.size() + 1) % 64, ' ');
  header += '\n';
  std::string text("\x93NUMPY\x01", 7);
  text += '\0';
  text += static_cast<char>(header.size() % 256);
  text += static_cast<char>(header.size() / 256);
  text += header;
  text.append(reinterpret_cast<const char*>(array.data()), array.size() * sizeof(float));
  return Bytes(text.begin(), text.end());
}

}  // namespace slipway
