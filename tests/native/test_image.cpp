// Decoding and encoding. That pixels equal OpenCV's own decoders' is checked
// from Python, where those are.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <thread>

#include "error.hpp"
#include "exif.hpp"
#include "image.hpp"

namespace slipway {
namespace {

// A picture of which no row or column equals another.
cv::Mat picture(int width, int height) {
  cv::Mat image(height, width, CV_8UC3);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      image.at<cv::Vec3b>(y, x) = cv::Vec3b(static_cast<std::uint8_t>(x * 7 + y), static_cast<std::uint8_t>(y * 11),
                                            static_cast<std::uint8_t>((x + y) * 5));
  return image;
}

bool equal(const cv::Mat& left, const cv::Mat& right) {
  return left.size() == right.size() && cv::norm(left, right, cv::NORM_INF) == 0;
}

// An EXIF block of one entry, by default the orientation.
Bytes exif_block(std::uint16_t value, bool little_endian, std::uint16_t tag = 0x0112) {
  Bytes block(2, little_endian ? 'I' : 'M');
  const auto put = [&](std::uint32_t number, int size) {
    for (int byte = 0; byte < size; ++byte)
      block.push_back(static_cast<std::uint8_t>(number >> 8 * (little_endian ? byte : size - 1 - byte)));
  };
  put(42, 2);
  put(8, 4);  // where the directory is
  put(1, 2);  // how many entries
  put(tag, 2);
  put(3, 2);  // of 16-bit numbers
  put(1, 4);  // one of them
  put(value, 2);
  put(0, 2);
  put(0, 4);  // no further directory
  return block;
}

Bytes jpeg_with_exif(const cv::Mat& image, const Bytes& block) {
  Bytes segment{0xFF, 0xE1, 0, static_cast<std::uint8_t>(block.size() + 8), 'E', 'x', 'i', 'f', 0, 0};
  segment.insert(segment.end(), block.begin(), block.end());
  auto jpeg = encode(image, "a.jpg");
  jpeg.insert(jpeg.begin() + 2, segment.begin(), segment.end());
  return jpeg;
}

// A progressive JPEG, 8×8 and grey, of so many scans that hold nothing.
Bytes jpeg_of_scans(int scans) {
  Bytes file{0xFF, 0xD8, 0xFF, 0xDB, 0, 67, 0};
  file.insert(file.end(), 64, 1);
  const Bytes frame{0xFF, 0xC2, 0, 11, 8, 0, 8, 0, 8, 1, 1, 0x11, 0};
  // One code: no coefficients in this block.
  const Bytes table{0xFF, 0xC4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
  const Bytes scan{0xFF, 0xDA, 0, 8, 1, 1, 0, 1, 5, 0, 0x7F};
  for (const auto& segment : {frame, table}) file.insert(file.end(), segment.begin(), segment.end());
  for (int index = 0; index < scans; ++index) file.insert(file.end(), scan.begin(), scan.end());
  file.insert(file.end(), {0xFF, 0xD9});
  return file;
}

std::string refusal(const Bytes& data) {
  try {
    decode(data, "a.png");
  } catch (const ImageError& error) {
    return error.what();
  }
  return "";
}

TEST(Exif, BothByteOrders) {
  for (const bool little_endian : {false, true})
    for (int value = 0; value < 300; ++value)
      EXPECT_EQ(exif_orientation(exif_block(static_cast<std::uint16_t>(value), little_endian)), value);
}

TEST(Exif, NothingWhereThereIsNone) {
  EXPECT_EQ(exif_orientation({}), std::nullopt);
  EXPECT_EQ(exif_orientation(exif_block(6, true, 0x9999)), std::nullopt);
  auto block = exif_block(6, true);
  block[2] = 43;
  EXPECT_EQ(exif_orientation(block), std::nullopt);
}

TEST(Exif, CutAnywhere) {
  const auto block = exif_block(6, true);
  constexpr std::size_t kValueEnds = 20;
  for (std::size_t size = 0; size < block.size(); ++size) {
    // A copy of just that size, so that the sanitizers see a read beyond it.
    const Bytes cut(block.begin(), block.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_EQ(exif_orientation(cut).has_value(), size >= kValueEnds) << size;
  }
}

TEST(Exif, HostileOffsets) {
  for (const std::size_t at : {4U, 8U, 14U, 18U})
    for (const int byte : {0x7F, 0x80, 0xFF})
      for (const int tag : {0x010F, 0x011A, 0x013E, 0x013F, 0x0211, 0x0214}) {
        auto block = exif_block(6, true, static_cast<std::uint16_t>(tag));
        std::fill_n(block.begin() + static_cast<std::ptrdiff_t>(at), std::min<std::size_t>(4, block.size() - at),
                    static_cast<std::uint8_t>(byte));
        EXPECT_EQ(exif_orientation(block), std::nullopt);
      }
}

TEST(Exif, WhereTheFirstPixelGoes) {
  // Of a picture 3 wide and 2 high, by orientation: the column and row of its
  // first pixel, and whether it lies on its side.
  constexpr struct {
    int x, y;
    bool turned;
  } expected[] = {{0, 0, false}, {2, 0, false}, {2, 1, false}, {0, 1, false},
                  {0, 0, true},  {1, 0, true},  {1, 2, true},  {0, 2, true}};
  for (int orientation = 1; orientation <= 8; ++orientation) {
    const auto original = picture(3, 2);
    auto image = original.clone();
    apply_orientation(image, orientation);
    const auto& [x, y, turned] = expected[orientation - 1];
    ASSERT_EQ(image.size(), turned ? cv::Size(2, 3) : cv::Size(3, 2)) << orientation;
    EXPECT_EQ(image.at<cv::Vec3b>(y, x), original.at<cv::Vec3b>(0, 0)) << orientation;
  }
  for (const int nothing : {-1, 0, 9, 65535}) {
    auto image = picture(3, 2);
    apply_orientation(image, nothing);
    EXPECT_TRUE(equal(image, picture(3, 2)));
  }
}

TEST(CheckSize, Limits) {
  check_size(1, 1, "a");
  check_size(kMaxPixels, 1, "a");
  check_size(1 << 14, 1 << 14, "a");
  for (const auto& [width, height] : {std::pair<std::int64_t, std::int64_t>{0, 1},
                                      {1, 0},
                                      {-1, -1},
                                      {kMaxPixels + 1, 1},
                                      {(1 << 14) + 1, 1 << 14},
                                      {std::int64_t{1} << 40, std::int64_t{1} << 40}})
    EXPECT_THROW(check_size(width, height, "a"), ImageError) << width << ' ' << height;
  try {
    check_size(30000, 30000, "a.png");
    FAIL();
  } catch (const ImageError& error) {
    EXPECT_STREQ(error.what(), "a.png: 30000×30000 pixels, expected 1 to 268435456");
  }
}

TEST(Decode, PngGivesBackThePixels) {
  for (const auto size : {cv::Size(1, 1), cv::Size(7, 3), cv::Size(64, 65)}) {
    const auto image = picture(size.width, size.height);
    EXPECT_TRUE(equal(decode(encode(image, "a.png"), "a"), image));
    // Rows that do not follow each other in memory.
    const cv::Mat part = picture(size.width + 5, size.height)(cv::Rect(2, 0, size.width, size.height));
    EXPECT_TRUE(equal(decode(encode(part, "a.png"), "a"), part));
  }
}

TEST(Decode, JpegIsNear) {
  const cv::Mat image(40, 50, CV_8UC3, cv::Scalar(200, 100, 50));
  const auto decoded = decode(encode(image, "a.JPEG"), "a");
  ASSERT_EQ(decoded.size(), image.size());
  EXPECT_LE(cv::norm(decoded, image, cv::NORM_INF), 4);
}

TEST(Decode, OrientationOfAJpeg) {
  const auto upright = decode(encode(picture(9, 5), "a.jpg"), "a");
  cv::Mat turned;
  cv::transpose(upright, turned);
  cv::flip(turned, turned, 1);
  EXPECT_TRUE(equal(decode(jpeg_with_exif(picture(9, 5), exif_block(6, true)), "a"), turned));
  EXPECT_TRUE(equal(decode(jpeg_with_exif(picture(9, 5), exif_block(9, true)), "a"), upright));
}

TEST(Decode, CutAnywhere) {
  for (const std::string name : {"a.png", "a.jpg"}) {
    const auto whole = encode(picture(20, 30), name);
    // A JPEG's last two bytes, its end marker, hold no pixels.
    const std::size_t needed = whole.size() - (name == "a.jpg" ? 2 : 0);
    for (std::size_t size = 0; size < needed; ++size) {
      const Bytes cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      EXPECT_THROW(decode(cut, name), ImageError) << name << ' ' << size;
    }
  }
}

TEST(Decode, SizeIsCheckedFirst) {
  auto png = encode(picture(4, 4), "a.png");
  const std::uint8_t sizes[] = {0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30};
  std::copy(std::begin(sizes), std::end(sizes), png.begin() + 16);
  EXPECT_EQ(refusal(png), "a.png: 30000×30000 pixels, expected 1 to 268435456");
  auto jpeg = encode(picture(4, 4), "a.jpg");
  const Bytes frame{0xFF, 0xC0};
  const auto found = std::search(jpeg.begin(), jpeg.end(), frame.begin(), frame.end());
  ASSERT_NE(found, jpeg.end());
  std::fill_n(found + 5, 4, 0xFF);
  EXPECT_EQ(refusal(jpeg), "a.png: 65535×65535 pixels, expected 1 to 268435456");
}

TEST(Decode, ScansAreCounted) {
  EXPECT_TRUE(equal(decode(jpeg_of_scans(100), "a"), cv::Mat(8, 8, CV_8UC3, cv::Scalar::all(128))));
  EXPECT_EQ(refusal(jpeg_of_scans(101)), "a.png: a JPEG of more than 100 scans; encode it again");
}

TEST(Decode, OtherFormatsAreNamed) {
  EXPECT_EQ(refusal({}), "a.png: not a whole image (0 bytes); expected JPEG or PNG");
  EXPECT_EQ(refusal({'t', 'e', 'x', 't'}), "a.png: not a whole image (4 bytes); expected JPEG or PNG");
  EXPECT_EQ(refusal({'B', 'M', 0, 0}), "a.png: a BMP image, expected JPEG or PNG; convert it");
  EXPECT_EQ(refusal({'I', 'I', '*', 0}), "a.png: a TIFF image, expected JPEG or PNG; convert it");
  EXPECT_EQ(refusal({'R', 'I', 'F', 'F', 4, 0, 0, 0, 'W', 'E', 'B', 'P'}),
            "a.png: a WebP image, expected JPEG or PNG; convert it");
}

TEST(Decode, SeveralThreads) {
  const auto jpeg = encode(picture(200, 100), "a.jpg"), png = encode(picture(200, 100), "a.png");
  const auto expected = decode(jpeg, "a");
  std::vector<int> right(4, 0);
  std::vector<std::thread> threads;
  for (auto& count : right)
    threads.emplace_back([&] {
      for (int turn = 0; turn < 20; ++turn) {
        count += equal(decode(jpeg, "a"), expected) && equal(decode(png, "a"), picture(200, 100));
        count += !refusal(Bytes(jpeg.begin(), jpeg.begin() + 300)).empty();
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(right, std::vector<int>(4, 40));
}

TEST(Encode, TheNameSaysTheFormat) {
  const auto image = picture(4, 4);
  EXPECT_EQ(encode(image, "a.PNG")[1], 'P');
  EXPECT_EQ(encode(image, "a.jpeg"), encode(image, "b.JPG"));
  for (const std::string name : {"a.bmp", "png", "a", "", "a.png.tif"}) EXPECT_THROW(encode(image, name), UsageError);
}

TEST(Encode, TooLargeForAJpeg) { EXPECT_THROW(encode(cv::Mat(1, 70000, CV_8UC3), "a.jpg"), ImageError); }

TEST(EncodeLabels, ValuesAndColours) {
  const std::vector<Colour> palette{{1, 2, 3}, {250, 0, 9}, {40, 50, 60}};
  cv::Mat labels(5, 7, CV_8UC1);
  for (int index = 0; index < 35; ++index) labels.data[index] = static_cast<std::uint8_t>(index % 3);
  const auto file = encode_labels(labels, palette);
  constexpr std::uint8_t kIndexed[] = {8, 3, 0, 0, 0};
  EXPECT_TRUE(std::equal(std::begin(kIndexed), std::end(kIndexed), file.begin() + 24));
  // The chunk after the header: nine bytes, the colours and nothing else.
  const Bytes colours{0, 0, 0, 9, 'P', 'L', 'T', 'E', 1, 2, 3, 250, 0, 9, 40, 50, 60};
  EXPECT_TRUE(std::equal(colours.begin(), colours.end(), file.begin() + 33));
  const auto decoded = decode(file, "a");
  for (int index = 0; index < 35; ++index) {
    const auto& [red, green, blue] = palette[static_cast<std::size_t>(index) % 3];
    EXPECT_EQ(decoded.at<cv::Vec3b>(index / 7, index % 7), cv::Vec3b(blue, green, red));
  }
}

TEST(EncodeLabels, ALabelWithoutAColour) {
  const cv::Mat labels(2, 2, CV_8UC1, cv::Scalar(255));
  EXPECT_NO_THROW(encode_labels(labels, std::vector<Colour>{{1, 2, 3}}));
}

}  // namespace
}  // namespace slipway
