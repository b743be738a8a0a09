"""The index on disk: files only, no torch. What the other rooms may call:

    store      root/.lock etc.  check_root(root); Stream; write_whole; write_new; room(root, path) -> StorageFull
               count_done(root) -> int
    lock       with DriverLock(root): …                     IndexMismatch when another driver holds it
    recipe     Recipe(side, backbone, backbone_digest, files, grid, shortlist, shortlist_m, shortlist_dim, rerank, k,
                      dim, codec, record_bytes, scales, match, batch, precision, max_pixels, seed, fits, format=1)
               Recipe.digest() -> str; file_digests(backbone=ref, shortlist=ref, rerank=ref) -> Recipe.files
               create_or_check(root, recipe) -> Recipe; read_recipe(root); find_recipe(root) -> Recipe | None
    fitted     write_fitted(root, arrays) -> sha; read_fitted(root, sha) -> arrays
    parts      PartEntry(name, digest, rows, skipped, reader=0); part_digest(recipe_digest, items)
               done(root, name, digest) -> PartEntry | None; open_part(root, entry) -> Part(items(), vectors, codes, scales)
               skipped(root, entry) -> {id: reason}
    writer     with PartWriter(root, name, digest, recipe, columns) as part:
                   part.append(items, vectors (n, m, G) f16, codes (n, R) u8, scales (n, s) f32)
                   part.skip(id, reason)
                   entry = part.commit()                    without commit the attempt is removed
    versions   Version(number, parent, parts, segments, readers, allow_missing); publish(root, version); VersionTaken
               latest(root) -> Version | None; read(root, number); numbers(root); check_ids([(part name, ids array)])
    segments   segment_key(parts, …) -> sha; write_segment(root, parts, *, factory, seed, m, dim, write=None) -> sha
               read_segment(root, sha) -> Segment(sha, parts, factory, seed, m, dim, rows, file: Path | None)
    opened     Snapshot(root, version=None): recipe, version, ids, items(), row(id), rows(ids), id_ranks(), part_of(row),
               gather(rows), blocks(max_rows), vectors(), segments, segment_rows(segment), bytes_per_image()
    gather     gather(codes, rows, *, willneed) -> (len(rows), R)
    token_cache  token_key(items, …) -> str; TokenCache(root).find(key) -> CachedTokens | None; .writer(key, shape, …)
    verify     verify(root) -> Verification(problems, notes, files, bytes); info(root) -> dict
"""
