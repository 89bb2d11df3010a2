# Warnings, optimisation and sanitizers: the same for every target.
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
add_compile_options(-Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers -fno-omit-frame-pointer)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports false positives of these two deep inside std::string and std::expected.
  add_compile_options(-Wno-restrict -Wno-maybe-uninitialized -Wno-stringop-overflow -Wno-array-bounds)
  if(CMAKE_UNITY_BUILD)
    # It takes each source of a joined one for a header, and what is one source's own for a danger to the next.
    # The release build has both warnings, source by source.
    add_compile_options(-Wno-subobject-linkage -Wno-shadow)
  endif()
endif()
if(CMAKE_CXX_COMPILER_ID MATCHES "Clang")
  # libstdc++ 12 uses what it deprecates in its own std::stable_sort.
  add_compile_options(-Wno-missing-designated-field-initializers -Wno-c99-designator -Wno-deprecated-declarations -Wno-unused-private-field)
endif()
add_compile_definitions(_FILE_OFFSET_BITS=64 _GNU_SOURCE)
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
set(CMAKE_CXX_FLAGS_DEBUG "-O0 -g")

if(KURAMORI_SANITIZE)
  add_compile_options(-fsanitize=${KURAMORI_SANITIZE} -fno-sanitize-recover=all -g1)
  if(KURAMORI_SANITIZE MATCHES "undefined")
    # The address sanitizer sees what is really out of bounds; this one costs a quarter of the build's time.
    add_compile_options(-fno-sanitize=object-size)
  endif()
  add_link_options(-fsanitize=${KURAMORI_SANITIZE})
  # Said by us, as clang 19 has no __SANITIZE_ADDRESS__: what a test must know is the same under both compilers.
  add_compile_definitions(KURAMORI_SANITIZED=1)
  if(KURAMORI_SANITIZE MATCHES "address")
    add_compile_definitions(KURAMORI_SANITIZED_ADDRESS=1)
  endif()
  if(KURAMORI_SANITIZE MATCHES "thread")
    add_compile_definitions(KURAMORI_SANITIZED_THREAD=1)
  endif()
endif()

if(KURAMORI_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link)  # what the fuzzers steer by
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
      CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime
      CCACHE_NOHASHDIR=1 ${CCACHE})
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    add_compile_options(-fpch-preprocess)
  else()
    add_compile_options("SHELL:-Xclang -fno-pch-timestamp")
  endif()
endif()
find_program(MOLD mold)
if(MOLD AND NOT KURAMORI_SANITIZE)
  add_link_options(-fuse-ld=mold)
endif()
