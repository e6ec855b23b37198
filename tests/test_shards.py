from __future__ import annotations

import pytest

from anomalib_xray.errors import XrayError
from anomalib_xray.shards import Shard


def test_each_key_belongs_to_one_shard_and_shards_are_of_about_one_size() -> None:
    keys = [f"train/patient{number:05}/image\udcf6.png" for number in range(4000)]
    parts = [{key for key in keys if Shard(number, 8).holds(key)} for number in range(8)]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(keys)
    assert all(430 < len(part) < 570 for part in parts)  # 500, give or take three standard deviations


@pytest.mark.parametrize("text", ["3/3", "8/3", "0/0", "1", "1/", "-1/3", "1/3/5", "a/b", "", "\N{SUPERSCRIPT ONE}/3"])
def test_what_is_no_shard_is_one_sentence(text: str) -> None:
    with pytest.raises(XrayError, match="--shard"):
        Shard.parse(text)


def test_the_sentence_tells_the_base() -> None:
    with pytest.raises(XrayError, match="count from 0: those of 3 are 0/3 to 2/3"):
        Shard.parse("3/3")
