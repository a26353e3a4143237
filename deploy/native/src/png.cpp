#include "png.hpp"

#include <png.h>

#include <cstring>
#include <new>
#include <utility>
#include <vector>

#include "error.hpp"
#include "exif.hpp"

namespace slipway {
namespace {

// zlib's run-length strategy and its fastest level.
constexpr int kRunLength = 3, kFastest = 1;
// The name of the last chunk: IEND.
constexpr png_uint_32 kEnd = 0x49454E44;
// Chunks before IDAT that make an animation: how many frames, and where the next frame goes.
constexpr png_uint_32 kPixels = 0x49444154, kAnimation = 0x6163544C, kFrame = 0x6663544C;
constexpr std::size_t kSignatureSize = 8, kHeaderAt = 16, kDepthAt = 24;

// libpng's errors jump to where `png_jmpbuf` was set. The jump runs no destructors, so nothing between it and the error
// may need one.
void on_error(png_structp png, png_const_charp) { png_longjmp(png, 1); }
void on_warning(png_structp, png_const_charp) {}

// Whether libpng went through `step` without an error.
template <typename Step>
bool succeeds(png_structp png, Step step) {
  if (setjmp(png_jmpbuf(png))) return false;
  step();
  return true;
}

std::vector<png_bytep> rows_of(const cv::Mat& image) {
  std::vector<png_bytep> rows(static_cast<std::size_t>(image.rows));
  for (int y = 0; y < image.rows; ++y) rows[static_cast<std::size_t>(y)] = const_cast<png_bytep>(image.ptr(y));
  return rows;
}

// Whether a PNG is an animation whose first frame is not just the pixels in IDAT: OpenCV shows that frame, and
// animations of 16 bits wrongly.
bool begins_otherwise(std::span<const std::uint8_t> data) {
  png_uint_32 frames = 1;
  bool frame_is_image = false;
  for (std::size_t at = kSignatureSize; data.size() - at >= 12;) {
    const auto chunk = data.subspan(at);
    const std::size_t length = png_get_uint_32(chunk.data());
    const auto kind = png_get_uint_32(chunk.data() + 4);
    if (length > chunk.size() - 12 || kind == kPixels) break;
    if (kind == kAnimation && length == 8) frames = png_get_uint_32(chunk.data() + 8);
    if (kind == kFrame && length == 26) {
      constexpr std::uint8_t origin[8] = {};
      frame_is_image =
          !std::memcmp(chunk.data() + 12, data.data() + kHeaderAt, 8) && !std::memcmp(chunk.data() + 20, origin, 8);
    }
    at += length + 12;
  }
  return frames == 0 || (frames > 1 && (!frame_is_image || data[kDepthAt] == 16));
}

class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> data) : rest_(data) {
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, on_error, on_warning);
    if (!png_) throw std::bad_alloc();
    info_ = png_create_info_struct(png_);
    end_ = png_create_info_struct(png_);
    png_set_read_fn(png_, this, read);
  }
  ~Reader() { png_destroy_read_struct(&png_, &info_, &end_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  bool read_header() {
    return succeeds(png_, [this] { png_read_info(png_, info_); });
  }

  std::int64_t width() const { return png_get_image_width(png_, info_); }
  std::int64_t height() const { return png_get_image_height(png_, info_); }

  // Fill an image of the header's size.
  bool read_pixels(cv::Mat& image) {
    auto rows = rows_of(image);
    return succeeds(png_, [&] {
      png_set_strip_16(png_);
      png_set_strip_alpha(png_);
      png_set_palette_to_rgb(png_);
      png_set_expand_gray_1_2_4_to_8(png_);
      png_set_gray_to_rgb(png_);
      png_set_bgr(png_);
      png_read_image(png_, rows.data());
    });
  }

  // Read what follows the pixels. A wrong checksum of the last chunk, which holds nothing, is an error to some versions
  // of libpng and none to others; it is none here.
  bool read_end() {
    if (succeeds(png_, [this] { png_read_end(png_, end_); })) return true;
    return png_get_io_chunk_type(png_) == kEnd && !truncated_;
  }

  // EXIF may come before or after the pixels.
  int orientation() const {
    for (const auto info : {info_, end_}) {
      png_uint_32 size = 0;
      png_bytep block = nullptr;
      if (png_get_eXIf_1(png_, info, &size, &block)) return exif_orientation({block, size}).value_or(1);
    }
    return 1;
  }

 private:
  static void read(png_structp png, png_bytep target, std::size_t size) {
    auto& reader = *static_cast<Reader*>(png_get_io_ptr(png));
    auto& rest = reader.rest_;
    if (size > rest.size()) {
      reader.truncated_ = true;
      png_error(png, "truncated");
    }
    std::memcpy(target, rest.data(), size);
    rest = rest.subspan(size);
  }

  std::span<const std::uint8_t> rest_;
  bool truncated_ = false;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr, end_ = nullptr;
};

class Writer {
 public:
  Writer() {
    png_ = png_create_write_struct(PNG_LIBPNG_VER_STRING, nullptr, on_error, on_warning);
    if (!png_) throw std::bad_alloc();
    info_ = png_create_info_struct(png_);
    png_set_write_fn(png_, &bytes_, append, [](png_structp) {});
  }
  ~Writer() { png_destroy_write_struct(&png_, &info_); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  // `prepare` sets what only this kind of image needs.
  template <typename Prepare>
  Bytes write(const cv::Mat& image, int colour_type, Prepare prepare) {
    auto rows = rows_of(image);
    const auto width = static_cast<png_uint_32>(image.cols), height = static_cast<png_uint_32>(image.rows);
    const bool written = succeeds(png_, [&] {
      png_set_IHDR(png_, info_, width, height, 8, colour_type, PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT,
                   PNG_FILTER_TYPE_DEFAULT);
      prepare(png_, info_);
      png_write_info(png_, info_);
      png_write_image(png_, rows.data());
      png_write_end(png_, info_);
    });
    if (!written) throw std::bad_alloc();
    return std::move(bytes_);
  }

 private:
  static void append(png_structp png, png_bytep data, std::size_t size) {
    if (!try_append(*static_cast<Bytes*>(png_get_io_ptr(png)), data, size)) png_error(png, "no memory");
  }
  // No exception may pass through libpng.
  static bool try_append(Bytes& bytes, png_bytep data, std::size_t size) {
    try {
      bytes.insert(bytes.end(), data, data + size);
      return true;
    } catch (const std::bad_alloc&) {
      return false;
    }
  }

  Bytes bytes_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

}  // namespace

bool is_png(std::span<const std::uint8_t> data) { return data.size() >= 8 && !png_sig_cmp(data.data(), 0, 8); }

cv::Mat decode_png(std::span<const std::uint8_t> data, const std::string& name) {
  Reader reader(data);
  if (!reader.read_header()) return {};
  if (begins_otherwise(data))
    throw ImageError(name + ": an animated PNG whose first frame is not a plain image; convert it");
  check_size(reader.width(), reader.height(), name);
  cv::Mat image(static_cast<int>(reader.height()), static_cast<int>(reader.width()), CV_8UC3);
  if (!reader.read_pixels(image) || !reader.read_end()) return {};
  apply_orientation(image, reader.orientation());
  return image;
}

Bytes encode_png(const cv::Mat& image) {
  return Writer().write(image, PNG_COLOR_TYPE_RGB, [](png_structp png, png_infop) {
    png_set_bgr(png);
    png_set_filter(png, PNG_FILTER_TYPE_BASE, PNG_FILTER_SUB);
    png_set_compression_level(png, kFastest);
    png_set_compression_strategy(png, kRunLength);
  });
}

Bytes encode_index_png(const cv::Mat& labels, std::span<const Colour> palette) {
  std::vector<png_color> colours;
  for (const auto& [red, green, blue] : palette) colours.push_back({red, green, blue});
  return Writer().write(labels, PNG_COLOR_TYPE_PALETTE, [&](png_structp png, png_infop info) {
    png_set_PLTE(png, info, colours.data(), static_cast<int>(colours.size()));
    // Labels without a colour are the reader's affair, as in `slipway_runtime.png`.
    png_set_check_for_invalid_index(png, 0);
  });
}

}  // namespace slipway
