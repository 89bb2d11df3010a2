// protozero, made safe for bytes that anybody may have written: a field of the wrong wire type throws, as its
// other complaints do, instead of aborting the program. Include this, not the library; only in .cc files,
// where the exceptions end too.
#pragma once
#include <stdexcept>

#ifdef PROTOZERO_CONFIG_HPP
#error "include vault/wire.h before protozero"
#endif
#define protozero_assert(condition) \
  (static_cast<bool>(condition) ? void(0) : throw std::invalid_argument("a field has the wrong type"))

#include <protozero/pbf_reader.hpp>
#include <protozero/pbf_writer.hpp>
