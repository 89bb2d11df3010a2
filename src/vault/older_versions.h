// Seeing through what was put over an object, or hidden it behind a delete marker.
//
// In a versioned place neither destroys anything: what stood there is an older version. So whoever knows what
// an object must be — by a digest that a commit binds, or by a signature — looks further back when the newest
// version is not it. That it had to is damage all the same, and a scrub, which looks at the newest alone,
// names it.
#pragma once
#include <string_view>

#include "store/store.h"

namespace kuramori {

// `read(latest)` made of the newest version, `read_version(versions, id)` of another: the first result that
// is no damage, newest first; the newest's error when there is none. kRefused is no better than damage: who
// puts bytes over an object may let them claim a later format, before anything of them was authenticated.
template <class T, class Latest, class Version>
Result<T> first_sound(Store& store, std::string_view name, Latest&& latest, Version&& read_version) {
  Result<T> newest = latest();
  if (newest) return newest;
  const bool was_read =
      newest.error().kind == ErrorKind::kDamaged || newest.error().kind == ErrorKind::kRefused;
  const bool maybe_hidden = was_read || newest.error().kind == ErrorKind::kNotFound;
  Versions* versions = store.versions();
  if (!maybe_hidden || versions == nullptr) return newest;
  auto all = versions->versions(name);
  if (!all) return newest;
  for (const ObjectVersion& version : *all) {
    if (version.delete_marker || (version.latest && was_read)) continue;
    Result<T> older = read_version(*versions, version);
    if (older) return older;
  }
  return newest;
}

// The same of small objects: `read(bytes)` says what they are, or why they are not.
template <class T, class Read>
Result<T> read_sound(Store& store, std::string_view name, Read&& read) {
  return first_sound<T>(
      store, name,
      [&]() -> Result<T> {
        TRY_ASSIGN(Bytes object, store.get(name));
        return read(ByteView(object));
      },
      [&](Versions& versions, const ObjectVersion& version) -> Result<T> {
        TRY_ASSIGN(Bytes object, versions.get_version(name, version.id));
        return read(ByteView(object));
      });
}

}  // namespace kuramori
