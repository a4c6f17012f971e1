"""Numbers by key: those of a dict, also where hashes are equal or meet in one slot, in a few bytes each."""

import random
import tracemalloc
from collections import defaultdict

from pipelines.ingest.key_index import KeyIndex, hash_of


def test_an_index_finds_what_a_dict_of_lists_does() -> None:
    index, expected = KeyIndex(), defaultdict(list)
    # Few slots and few hashes: many meet, at the last slot, too, and many are equal.
    some = random.Random(0)
    hashes = [1, 1023, 1024, 2047, 2**64 - 1, *(some.randrange(1, 2**12) for _ in range(1500))]
    for number, key_hash in enumerate(hashes):
        assert sorted(index.find(key_hash)) == expected[key_hash]
        index.add(key_hash, number)
        expected[key_hash].append(number)
    assert all(sorted(index.find(key_hash)) == expected[key_hash] for key_hash in range(1, 2**12))
    assert list(index.find(2**63)) == []


def test_an_entry_takes_a_few_bytes() -> None:
    tracemalloc.start()
    index = KeyIndex()
    for number in range(20_000):
        index.add(hash_of(str(number)), number)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken / 20_000 < 40
    assert all(list(index.find(hash_of(str(number)))) == [number] for number in range(0, 20_000, 100))


def test_a_hash_is_the_first_bytes_of_sha256_and_names_of_files_may_be_no_unicode() -> None:
    assert hash_of("abc") == 0xBA7816BF8F01CFEA  # FIPS 180-2, appendix B.1
    assert hash_of("a\udcfb.png") != hash_of("a.png")
