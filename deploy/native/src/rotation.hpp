// The images that are measured by turns, read and prepared before anything is timed.
#pragma once

#include <string>
#include <vector>

#include "files.hpp"
#include "model.hpp"

namespace slipway {

// Images that go through the graph together.
using Group = std::vector<const Prepared*>;

class Rotation {
 public:
  // The first images of `sources`, as many as are sensible to hold: 256 of 512 MiB at most. Throws ImageError.
  Rotation(const Model& model, const std::vector<Source>& sources);

  std::size_t count() const { return names_.size(); }
  const std::string& name(std::size_t index) const { return names_[index]; }
  const Bytes& encoded(std::size_t index) const { return encoded_[index]; }
  const std::vector<Prepared>& prepared() const { return prepared_; }

  // Decode and preprocess an image anew.
  Prepared prepare(std::size_t index) const;

  // Every `batch` images that the graph sees in one shape, in the order in which they are complete.
  std::vector<Group> groups_of_one_shape(std::size_t batch) const;

 private:
  const Model& model_;
  std::vector<std::string> names_;
  std::vector<Bytes> encoded_;
  std::vector<Prepared> prepared_;
};

// As the pipeline batches images: neighbours of one shape, `batch` at most.
std::vector<Group> batches_of(const std::vector<Prepared>& images, std::size_t batch);

}  // namespace slipway
