#include "exif.hpp"

namespace slipway {
namespace {

constexpr std::uint16_t kOrientation = 0x0112;
constexpr std::uint16_t kTiff = 0x002A;
constexpr std::size_t kEntrySize = 12;

// Numbers in the block's own byte order; nothing beyond its end.
class Block {
 public:
  explicit Block(std::span<const std::uint8_t> bytes)
      : bytes_(bytes), little_endian_(bytes.size() > 1 && bytes[0] == 'I' && bytes[1] == 'I') {}

  std::size_t size() const { return bytes_.size(); }
  std::optional<std::uint16_t> u16(std::size_t at) const {
    if (at >= bytes_.size() || bytes_.size() - at < 2) return std::nullopt;
    const unsigned first = bytes_[at], second = bytes_[at + 1];
    return static_cast<std::uint16_t>(little_endian_ ? second << 8 | first : first << 8 | second);
  }
  std::optional<std::uint32_t> u32(std::size_t at) const {
    const auto first = u16(at), second = u16(at + 2);
    if (!first || !second) return std::nullopt;
    const std::uint32_t low = little_endian_ ? *first : *second, high = little_endian_ ? *second : *first;
    return high << 16 | low;
  }

 private:
  std::span<const std::uint8_t> bytes_;
  bool little_endian_;
};

// Whether a text of the entry lies in the block. A short text is looked for where OpenCV does: at the block's byte 8.
bool text_fits(const Block& block, std::size_t entry) {
  const auto size = block.u32(entry + 4);
  if (!size) return false;
  const auto at = *size > 4 ? block.u32(entry + 8) : std::optional<std::uint32_t>(8);
  return at && *at <= block.size() && *size <= block.size() - *at;
}

// Whether as many rationals as the entry points to lie in the block.
bool rationals_fit(const Block& block, std::size_t entry, std::size_t count) {
  const auto at = block.u32(entry + 8);
  return at && *at <= block.size() && 8 * count <= block.size() - *at;
}

// Whether OpenCV's reader gets past the entry. It reads the values of the tags it knows, in the order of the entries,
// and stops at the first that lies outside the block: an orientation after that one does not count.
bool readable(const Block& block, std::size_t entry, std::uint16_t tag) {
  switch (tag) {
    case 0x010E:  // description
    case 0x010F:  // make
    case 0x0110:  // model
    case 0x0131:  // software
    case 0x0132:  // date and time
    case 0x8298:  // copyright
      return text_fits(block, entry);
    case 0x011A:  // horizontal resolution
    case 0x011B:  // vertical resolution
      return rationals_fit(block, entry, 1);
    case 0x013E:  // white point
      return rationals_fit(block, entry, 2);
    case 0x0211:  // YCbCr coefficients
      return rationals_fit(block, entry, 3);
    case 0x013F:  // primary chromaticities
    case 0x0214:  // reference black and white
      return rationals_fit(block, entry, 6);
    case kOrientation:
    case 0x0128:  // unit of the resolution
    case 0x0213:  // YCbCr positioning
      return block.u16(entry + 8).has_value();
    default:
      return true;
  }
}

}  // namespace

std::optional<int> exif_orientation(std::span<const std::uint8_t> bytes) {
  const Block block(bytes);
  if (block.u16(2) != kTiff) return std::nullopt;
  const auto directory = block.u32(4);
  const auto count = directory ? block.u16(*directory) : std::nullopt;
  for (std::size_t index = 0; index < count.value_or(0); ++index) {
    const std::size_t entry = *directory + 2 + index * kEntrySize;
    const auto tag = block.u16(entry);
    if (!tag || !readable(block, entry, *tag)) return std::nullopt;
    if (*tag == kOrientation) return block.u16(entry + 8);
  }
  return std::nullopt;
}

void apply_orientation(cv::Mat& image, int orientation) {
  constexpr int kBoth = -1, kVertically = 0, kHorizontally = 1;
  // 5 to 8: the file's rows are the picture's columns.
  if (orientation >= 5 && orientation <= 8) cv::transpose(image, image);
  switch (orientation) {
    case 2:
    case 6:
      return cv::flip(image, image, kHorizontally);
    case 3:
    case 7:
      return cv::flip(image, image, kBoth);
    case 4:
    case 8:
      return cv::flip(image, image, kVertically);
    default:
      return;
  }
}

}  // namespace slipway
