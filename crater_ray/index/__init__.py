"""The index in a folder or on object storage: files only, no torch. Import what you need from its module.

store             store_at(address) -> Store: where an index lies; FolderStore. Everything here takes a store
object_store, s3  ObjectStore: an index on object storage and its cache here; Bucket: its objects
checksummed_json  JSON files that carry their own checksum
config            what shapes the bytes of an index: index.json
fitted            arrays that were learnt, named by their content
parts, writer     finished parts, and one in the making
compacted         small parts kept as one, and taken out again as they were
segments          the shortlist over several parts
versions          which parts, segments and readers are current; publish(store, version) is the commit
snapshot          Snapshot(store): one version, opened and held
lock, leases, gc  one driver writes; who reads a version; old versions removed
verify, info      every checksum; what an index holds
token_cache       a backbone's tokens, kept by part
"""
