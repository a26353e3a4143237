#include "jpeg.hpp"

// jpeglib.h takes FILE and size_t as known.
#include <cstdio>

#include <jpeglib.h>

#include <algorithm>
#include <array>
#include <csetjmp>
#include <cstdlib>
#include <vector>

#include "error.hpp"
#include "exif.hpp"

namespace slipway {
namespace {

constexpr int kQuality = 95;
constexpr int kApp1 = JPEG_APP0 + 1;
// What tells an EXIF segment from others of its kind, as XMP.
constexpr std::array<std::uint8_t, 6> kExif{'E', 'x', 'i', 'f', 0, 0};
// The most scans that libjpeg's own encoder makes. A few bytes of a hostile file's scan cost a pass over all pixels.
constexpr int kMaxScans = 100;

// libjpeg's error handling: silent, and errors jump to `jump`. The jump runs no destructors, so nothing between it and
// the error may need one.
struct Errors {
  jpeg_error_mgr manager;
  std::jmp_buf jump;

  template <typename State>
  void attach(State& state) {
    state.err = jpeg_std_error(&manager);
    state.client_data = this;
    manager.error_exit = [](j_common_ptr common) { std::longjmp(static_cast<Errors*>(common->client_data)->jump, 1); };
    manager.output_message = [](j_common_ptr) {};
  }
};

// Whether libjpeg went through `step`, which says so itself, without an error.
template <typename Step>
bool succeeds(Errors& errors, Step step) {
  if (setjmp(errors.jump)) return false;
  return step();
}

// Encoded bytes in memory. Where they end, reading is suspended, which tells truncated data from whole data.
struct Source {
  jpeg_source_mgr manager{};

  explicit Source(std::span<const std::uint8_t> data) {
    manager.next_input_byte = data.data();
    manager.bytes_in_buffer = data.size();
    manager.init_source = [](j_decompress_ptr) {};
    manager.fill_input_buffer = [](j_decompress_ptr) -> boolean { return FALSE; };
    manager.skip_input_data = [](j_decompress_ptr state, long count) {
      if (count <= 0) return;
      const auto skipped = std::min(static_cast<std::size_t>(count), state->src->bytes_in_buffer);
      state->src->next_input_byte += skipped;
      state->src->bytes_in_buffer -= skipped;
    };
    manager.resync_to_restart = jpeg_resync_to_restart;
    manager.term_source = [](j_decompress_ptr) {};
  }
};

// OpenCV's conversion of a row.
void cmyk_to_bgr(const std::uint8_t* cmyk, std::uint8_t* bgr, int width) {
  for (int x = 0; x < width; ++x, cmyk += 4, bgr += 3)
    for (int colour = 0; colour < 3; ++colour) {
      const int black = cmyk[3];
      bgr[2 - colour] = static_cast<std::uint8_t>(black - ((255 - cmyk[colour]) * black >> 8));
    }
}

// The EXIF block of an APP1 segment; empty where the segment is of another kind.
std::span<const std::uint8_t> exif_block(std::span<const std::uint8_t> segment) {
  if (segment.size() < kExif.size() || !std::equal(kExif.begin(), kExif.end(), segment.begin())) return {};
  return segment.subspan(kExif.size());
}

class Reader {
 public:
  explicit Reader(std::span<const std::uint8_t> data) : source_(data) {
    errors_.attach(state_);
    progress_.progress_monitor = [](j_common_ptr common) {
      const auto state = reinterpret_cast<j_decompress_ptr>(common);
      if (state->input_scan_number > kMaxScans) common->err->error_exit(common);
    };
  }
  ~Reader() { jpeg_destroy_decompress(&state_); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  bool read_header() {
    return succeeds(errors_, [this] {
      jpeg_create_decompress(&state_);
      state_.src = &source_.manager;
      state_.progress = &progress_;
      jpeg_save_markers(&state_, kApp1, 0xFFFF);
      return jpeg_read_header(&state_, TRUE) == JPEG_HEADER_OK;
    });
  }

  std::int64_t width() const { return state_.image_width; }
  std::int64_t height() const { return state_.image_height; }
  bool has_too_many_scans() const { return state_.input_scan_number > kMaxScans; }

  // The first that any EXIF segment gives.
  int orientation() const {
    for (auto marker = state_.marker_list; marker; marker = marker->next)
      if (const auto found = exif_orientation(exif_block({marker->data, marker->data_length}))) return *found;
    return 1;
  }

  // Fill an image of the header's size.
  bool read_pixels(cv::Mat& image) {
    std::vector<std::uint8_t> cmyk(state_.num_components == 4 ? 4 * static_cast<std::size_t>(width()) : 0);
    return succeeds(errors_, [&] {
      state_.out_color_space = cmyk.empty() ? JCS_EXT_BGR : JCS_CMYK;
      if (!jpeg_start_decompress(&state_)) return false;
      for (int y = 0; y < image.rows; ++y) {
        JSAMPROW row = cmyk.empty() ? image.ptr(y) : cmyk.data();
        if (jpeg_read_scanlines(&state_, &row, 1) != 1) return false;
        if (!cmyk.empty()) cmyk_to_bgr(row, image.ptr(y), image.cols);
      }
      // What may follow the last row, a missing end marker too, changes no pixel.
      return true;
    });
  }

 private:
  jpeg_decompress_struct state_{};
  jpeg_progress_mgr progress_{};
  Errors errors_{};
  Source source_;
};

class Writer {
 public:
  Writer() { errors_.attach(state_); }
  ~Writer() {
    jpeg_destroy_compress(&state_);
    std::free(buffer_);
  }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

  bool write(const cv::Mat& image) {
    return succeeds(errors_, [&] {
      jpeg_create_compress(&state_);
      jpeg_mem_dest(&state_, &buffer_, &size_);
      state_.image_width = static_cast<JDIMENSION>(image.cols);
      state_.image_height = static_cast<JDIMENSION>(image.rows);
      state_.input_components = 3;
      state_.in_color_space = JCS_EXT_BGR;
      jpeg_set_defaults(&state_);
      jpeg_set_quality(&state_, kQuality, TRUE);
      jpeg_start_compress(&state_, TRUE);
      for (int y = 0; y < image.rows; ++y) {
        JSAMPROW row = const_cast<JSAMPROW>(image.ptr(y));
        jpeg_write_scanlines(&state_, &row, 1);
      }
      jpeg_finish_compress(&state_);
      return true;
    });
  }

  Bytes bytes() const { return Bytes(buffer_, buffer_ + size_); }

 private:
  jpeg_compress_struct state_{};
  Errors errors_{};
  unsigned char* buffer_ = nullptr;
  unsigned long size_ = 0;
};

}  // namespace

bool is_jpeg(std::span<const std::uint8_t> data) {
  return data.size() >= 3 && data[0] == 0xFF && data[1] == 0xD8 && data[2] == 0xFF;
}

cv::Mat decode_jpeg(std::span<const std::uint8_t> data, const std::string& name) {
  Reader reader(data);
  if (!reader.read_header()) return {};
  check_size(reader.width(), reader.height(), name);
  cv::Mat image(static_cast<int>(reader.height()), static_cast<int>(reader.width()), CV_8UC3);
  const bool whole = reader.read_pixels(image);
  if (reader.has_too_many_scans())
    throw ImageError(name + ": a JPEG of more than " + std::to_string(kMaxScans) + " scans; encode it again");
  if (!whole) return {};
  apply_orientation(image, reader.orientation());
  return image;
}

Bytes encode_jpeg(const cv::Mat& image, const std::string& name) {
  Writer writer;
  if (!writer.write(image))
    throw ImageError(name + ": " + std::to_string(image.cols) + "×" + std::to_string(image.rows) +
                     " pixels cannot be written as JPEG; use PNG");
  return writer.bytes();
}

}  // namespace slipway
