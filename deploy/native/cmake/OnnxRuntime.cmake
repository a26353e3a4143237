# Target `onnxruntime`. Headers and library each come from the first place that has them:
#   1. ORT_ROOT, a folder with include/ and lib/ (a release's archive, unpacked)
#   2. headers: the system's packages; library: the wheel in ORT_WHEEL, so that binary and Python run the same build
#   3. the pinned release below, downloaded into the build folder (x86-64)
# The C API is versioned: these headers work with every later library.
set(ORT_ROOT "" CACHE PATH "ONNX Runtime's folder, with include/ and lib/")
set(ORT_WHEEL "" CACHE PATH "onnxruntime's Python package, for its library")
set(ORT_RELEASE 1.20.1)
set(ORT_ARCHIVE onnxruntime-linux-x64-${ORT_RELEASE})
set(ORT_URL https://github.com/microsoft/onnxruntime/releases/download/v${ORT_RELEASE}/${ORT_ARCHIVE}.tgz)
set(ORT_SHA256 67db4dc1561f1e3fd42e619575c82c601ef89849afc7ea85a003abbac1a1a105)

macro(look_for_onnxruntime)
  find_path(ORT_INCLUDE onnxruntime_cxx_api.h NO_DEFAULT_PATH
    PATHS ${ORT_ROOT}/include ${ARGN} /usr/include /usr/local/include
    PATH_SUFFIXES onnxruntime onnxruntime/core/session)
  if(NOT ORT_LIBRARY)
    file(GLOB found ${ORT_ROOT}/lib/libonnxruntime.so.*.* ${ORT_WHEEL}/capi/libonnxruntime.so.*.* ${ARGN}/../lib/libonnxruntime.so.*.*)
    list(APPEND found ORT_LIBRARY-NOTFOUND)
    list(GET found 0 ORT_LIBRARY)
  endif()
endmacro()

look_for_onnxruntime()
if((NOT ORT_INCLUDE OR NOT ORT_LIBRARY) AND NOT ORT_ROOT AND CMAKE_SYSTEM_PROCESSOR STREQUAL x86_64)
  message(STATUS "downloading ONNX Runtime ${ORT_RELEASE}")
  set(archive ${CMAKE_BINARY_DIR}/${ORT_ARCHIVE}.tgz)
  file(DOWNLOAD ${ORT_URL} ${archive} STATUS status TLS_VERIFY ON)
  if(NOT status MATCHES "^0;")
    message(FATAL_ERROR "ONNX Runtime's headers could not be downloaded (${status}).\n"
      "Give ORT_ROOT=, the folder of a release of ONNX Runtime with include/ and lib/, or install libonnxruntime-dev (Debian 13 and later)")
  endif()
  file(SHA256 ${archive} found)
  if(NOT found STREQUAL ORT_SHA256)
    message(FATAL_ERROR "${archive} has SHA-256 ${found}, expected ${ORT_SHA256}; remove it and try again")
  endif()
  file(ARCHIVE_EXTRACT INPUT ${archive} DESTINATION ${CMAKE_BINARY_DIR})
  look_for_onnxruntime(${CMAKE_BINARY_DIR}/${ORT_ARCHIVE}/include)
endif()
if(NOT ORT_INCLUDE OR NOT ORT_LIBRARY)
  message(FATAL_ERROR "ONNX Runtime is missing; in ORT_ROOT=${ORT_ROOT} expected include/onnxruntime_cxx_api.h and lib/libonnxruntime.so.*")
endif()
message(STATUS "ONNX Runtime: ${ORT_LIBRARY}, headers ${ORT_INCLUDE}")

# Programs ask for the library by its major version's name, which wheels do not have.
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
file(CREATE_LINK ${ORT_LIBRARY} ${CMAKE_BINARY_DIR}/lib/libonnxruntime.so.1 SYMBOLIC)
add_library(onnxruntime INTERFACE)
target_include_directories(onnxruntime SYSTEM INTERFACE ${ORT_INCLUDE})
target_link_libraries(onnxruntime INTERFACE ${CMAKE_BINARY_DIR}/lib/libonnxruntime.so.1)
