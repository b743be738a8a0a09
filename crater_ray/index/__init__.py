"""The index in a folder or on object storage: files only, no torch. A `root` is a folder's path, or the
Path of an s3:// address. Import what you need from the module that has it:

lock         with DriverLock(root): …                   IndexMismatch when another driver holds it
recipe       Recipe(side, backbone, backbone_digest, grid, shortlist, shortlist_m, shortlist_dim, rerank,
                 k, dim, codec, record_bytes, scales, scoring, batch, precision, max_pixels, seed, fits,
                 files)
             Recipe.digest() -> str
             file_digests(backbone=ref, shortlist=ref, rerank=ref) -> Recipe.files
             create_or_check(root, recipe) -> Recipe     writes it into a new folder, or compares
             read_recipe(root) -> Recipe; find_recipe(root) -> Recipe | None where an index may begin
fitted       write_fitted(root, arrays) -> sha; read_fitted(root, sha) -> arrays
parts        PartEntry(name, digest, rows, skipped, reader=0)
             part_digest(recipe_digest, items) -> str; check_name(part name)
             done(root, name, digest) -> PartEntry | None
             open_part(root, entry) -> Part: items(columns), schema, vectors, codes, scales
             skipped(root, entry) -> {id: reason}
writer       with PartWriter(root, name, digest, recipe, columns) as part:
                 part.append(items, vectors (n, m, G) f16, codes (n, R) u8, scales (n, s) f32)
                 part.skip(id, reason)
                 entry = part.commit()                   without it the attempt is removed
items        items_schema(columns); items_table(items, schema, part); items_file(table) -> bytes
packs        pack(root, recipe, parts) -> PartEntry      several parts as one
             take_out(root, recipe, place) -> PartEntry  one of them again, byte for byte
             packed(root) -> {(name, digest): Place}; members(root, entry); listing(root, version)
             settle(root, recipe, parts, parent) -> parts as a version lists them: packs where they are whole
pins         Pin(root, number)                           a reader's; VersionGone when it was collected
             with Claim(root, number) as claim           a collector's: claim.free, claim.known
collect      collect(root, keep, force=, dry=) -> Collected; collected(root) -> numbers
inventory    inventory(root, version) -> [Line]          every part by its reader's name
versions     Version(number, parent, parts, segments=(), readers=(), allow_missing=())
             publish(root, version) -> Version           VersionTaken: recompute on the new parent
             latest(root) -> Version | None; read(root, number); numbers(root)
             check_ids([(part name, arrow ids)]) -> count; ReaderError names an id that stands twice
segments     StageOne(factory, seed, m, dim, fitted=None, quantizer=None, auto=False)
             segment_key(parts, stage_one) -> sha
             write_segment(root, parts, stage_one, write=None) -> sha
                 write(path) saves the FAISS file and gives what was measured of it; fitted: sha of what is
                 done to the vectors first; quantizer: sha of what the FAISS index learnt
             read_segment(root, sha) -> Segment: also file, sum, rows, tuning, learnt, asked, told()
             check_segment(segment)                      reads the file: DamagedIndex for a flipped bit
opened       Snapshot(root, version=None, segments=None): recipe, version, parts, offsets, segments, len()
             ids, groups (arrow, N); items(columns); row(id); rows(ids); id_ranks; part_of(row)
             gather(rows) -> codes, scales; blocks(max_rows) -> (first row, codes, scales)…
             vectors(rows=None); check() reads every file: DamagedIndex
             owners(version, segments) -> each part's segment
             scales; segment_rows(segment); fitted(segment) -> arrays | None
             bytes_per_image() -> {stage: bytes}
gather       gather(codes, rows, *, willneed) -> (len(rows), R)
token_cache  token_key(items, *, reader, backbone, backbone_digest, precision, batch, max_pixels) -> key
             TokenCache(root).find(key) -> CachedTokens | None: ids, shape, bad, batches(batch), check()
             with TokenCache(root).writer(key, shape, attention_column=False) as tokens:
                 tokens.append(ids, patches, cls, attention, attention_column, bad); tokens.commit()
bucket       bucket(root) -> Bucket | None               what an address names; None for a folder
             folder(root) -> where the files are on this machine; only_on_disk(root, what)
             with afresh(root): …                        no copy made before is believed
copies       fetch(root, path) -> whether a small file is there now; bring(root, copies); mend(root, copies)
             send(root, source, target, record, attempt) -> whether ours is what object storage has now
verify       verify(root) -> Verification(problems, notes, files, bytes); info(root) -> dict
store        check_root(root); how files reach the disk is this room's own affair
"""
