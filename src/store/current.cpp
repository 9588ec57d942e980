#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/crc32c.h"
#include "store/manifest.h"
#include "store/numbered.h"

namespace ehub {
namespace {

constexpr std::string_view kManifestPrefix = "manifest-";

// "manifest-<20 digits at most> <8 digits>\n" is shorter.
constexpr uint64_t kCurrentBytesMax = 64;

std::string current_path(const std::string& root) { return root + "/CURRENT"; }

// The name of a manifest file, without its directory.
std::string manifest_name(uint64_t number) { return manifest_path("", number).substr(1); }

// The number of the manifest whose name begins `text`, whatever follows it; 0 if none does. There is no manifest 0.
uint64_t leading_number(const std::string& text) {
  if (!text.starts_with(kManifestPrefix)) return 0;
  return std::strtoull(text.c_str() + kManifestPrefix.size(), nullptr, 10);
}

Status write_file(FileSystem& fs, const std::string& path, const void* bytes, size_t size) {
  Result<std::unique_ptr<File>> file = fs.open(path, FileSystem::Mode::kCreate);
  if (!file.ok()) return of_making(file.status());
  EHUB_RETURN_IF_ERROR(file.value()->write(0, bytes, size));
  return file.value()->sync();
}

template <typename Bytes>
Status read_file(FileSystem& fs, const std::string& path, uint64_t size_max, Bytes* bytes) {
  Result<std::unique_ptr<File>> file = fs.open(path, FileSystem::Mode::kRead);
  if (!file.ok()) return file.status();
  Result<uint64_t> size = file.value()->size();
  if (!size.ok()) return size.status();
  if (size.value() > size_max) return corruption(path, size_max, "the file is too long");
  bytes->resize(size.value());
  return file.value()->read(0, bytes->data(), bytes->size());
}

// Whoever asks for a manifest has its name from CURRENT or from the directory.
Status read_manifest_file(FileSystem& fs, const std::string& path, std::vector<uint8_t>* bytes) {
  Status status = read_file(fs, path, UINT64_MAX, bytes);
  return status.code() == Code::kNotFound ? missing(path) : status;
}

// An earlier attempt may have switched to this very number and failed after that: its file must not be touched again.
Status check_not_live(FileSystem& fs, const std::string& root, uint64_t number) {
  Result<uint64_t> live = read_current(fs, root);
  if (!live.ok() || live.value() != number) return {};
  return read_only(current_path(root) + " already names manifest " + std::to_string(number) +
                   ", although installing it was reported as failed; reopen the hub");
}

Status switch_current(FileSystem& fs, const std::string& root, uint64_t number) {
  const std::string text = current_text(number);
  const std::string temporary = current_path(root) + ".tmp";
  EHUB_RETURN_IF_ERROR(write_file(fs, temporary, text.data(), text.size()));
  EHUB_RETURN_IF_ERROR(fs.rename(temporary, current_path(root)));
  return fs.sync_directory(root);
}

}  // namespace

std::string current_text(uint64_t number) {
  const std::string name = manifest_name(number);
  char crc[16];
  std::snprintf(crc, sizeof(crc), " %08" PRIx32 "\n", crc_mask(crc32c(0, name.data(), name.size())));
  return name + crc;
}

Status install_manifest(FileSystem& fs, const std::string& root, const Manifest& manifest) {
  EHUB_ASSERT(manifest.number != 0);
  EHUB_RETURN_IF_ERROR(check_not_live(fs, root, manifest.number));
  const std::vector<uint8_t> bytes = encode_manifest(manifest);
  EHUB_RETURN_IF_ERROR(write_file(fs, manifest_path(root, manifest.number), bytes.data(), bytes.size()));
  // The name must be durable before CURRENT is, or CURRENT could name a file that a power cut has taken.
  EHUB_RETURN_IF_ERROR(fs.sync_directory(root));
  return switch_current(fs, root, manifest.number);
}

Result<uint64_t> read_current(FileSystem& fs, const std::string& root) {
  const std::string path = current_path(root);
  std::string text;
  EHUB_RETURN_IF_ERROR(read_file(fs, path, kCurrentBytesMax, &text));
  const uint64_t number = leading_number(text);
  if (number == 0 || text != current_text(number)) return corruption(path, 0, "it does not name a manifest");
  return number;
}

Result<Manifest> read_manifest(FileSystem& fs, const std::string& root, uint64_t number) {
  const std::string path = manifest_path(root, number);
  std::vector<uint8_t> bytes;
  EHUB_RETURN_IF_ERROR(read_manifest_file(fs, path, &bytes));
  Result<Manifest> manifest = decode_manifest(path, bytes);
  if (manifest.ok() && manifest.value().number != number) {
    return corruption(path, 0, "it is manifest " + std::to_string(manifest.value().number));
  }
  return manifest;
}

Status verify_manifest(FileSystem& fs, const std::string& root, uint64_t number) {
  const std::string path = manifest_path(root, number);
  std::vector<uint8_t> bytes;
  EHUB_RETURN_IF_ERROR(read_manifest_file(fs, path, &bytes));
  EHUB_RETURN_IF_ERROR(check_manifest(path, bytes));
  return read_manifest(fs, root, number).status();
}

Result<std::vector<uint64_t>> list_manifests(FileSystem& fs, const std::string& root) {
  return list_numbered(fs, root, manifest_path);
}

}  // namespace ehub
