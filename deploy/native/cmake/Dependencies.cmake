# The libraries, from the system's packages (deploy/native/packages.txt); ONNX Runtime as OnnxRuntime.cmake finds it.

function(missing what)
  message(FATAL_ERROR "${what} is missing; on Debian:\n"
    "  apt-get install --no-install-recommends $(cat deploy/native/packages.txt)")
endfunction()

foreach(package JPEG PNG nlohmann_json CLI11 Threads)
  find_package(${package} QUIET)
  if(NOT ${package}_FOUND)
    missing(${package})
  endif()
endforeach()

# OpenCV's core and imgproc alone: its CMake package would ask for all the other modules.
find_path(OPENCV_INCLUDE opencv2/imgproc.hpp PATH_SUFFIXES opencv4)
find_library(OPENCV_CORE opencv_core)
find_library(OPENCV_IMGPROC opencv_imgproc)
if(NOT OPENCV_INCLUDE OR NOT OPENCV_CORE OR NOT OPENCV_IMGPROC)
  missing("OpenCV (core and imgproc)")
endif()
add_library(opencv INTERFACE)
target_include_directories(opencv SYSTEM INTERFACE ${OPENCV_INCLUDE})
target_link_libraries(opencv INTERFACE ${OPENCV_IMGPROC} ${OPENCV_CORE})

find_path(MD_INCLUDE sha2.h)
find_library(MD_LIBRARY md)
if(NOT MD_INCLUDE OR NOT MD_LIBRARY)
  missing(libmd)
endif()
add_library(md INTERFACE)
target_link_libraries(md INTERFACE ${MD_LIBRARY})

include(OnnxRuntime)
