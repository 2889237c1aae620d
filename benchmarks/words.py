"""Words of scripts without spaces: ICU's dictionaries beside characters, on sentences whose words are known.

    python benchmarks/words.py [--module FILE]

FILE is another `text.py`, as one of an earlier commit: `git show 1e491ca^:src/llmdata/text.py > FILE` is the last that
cut Chinese and Japanese into characters (runs of katakana stay whole) and the others into orthographic syllables.
The sentences were written for this and cut by hand; a border is right if it stands between the same two characters.
Borders are counted without those at the ends. Rates are of CPU time.
"""

from __future__ import annotations

import argparse
import importlib.util
import time
from collections.abc import Callable
from pathlib import Path

from llmdata.words import split_words

GOLD = {
    "Chinese": """我们 昨天 在 北京 大学 参加 了 会议|他 喜欢 看 书 和 听 音乐|今天 的 天气 非常 好|老师 给 学生 上课
        这 本 书 的 作者 是 谁|火车 八 点 离开 上海|妈妈 在 厨房 做饭|科学家 发现 了 一 种 新 的 植物
        政府 宣布 了 新 的 经济 政策|她 每天 早上 跑步|孩子 们 在 公园 玩|请 把 门 关上""",
    "Japanese": """私 は 学生 です|昨日 東京 で 友達 に 会い まし た|この 本 は とても 面白い|電車 が 遅れ て い ます
        日本 の 経済 は 回復 し て いる|母 は 台所 で 料理 を し ます|新しい 車 を 買い たい|明日 は 雨 が 降る でしょう
        彼 は 毎朝 コーヒー を 飲む|大学 で 歴史 を 勉強 し た|駅 まで 歩い て 行く|子供 が 公園 で 遊ぶ""",
    "Thai": """ฉัน รัก ประเทศ ไทย|วันนี้ อากาศ ดี มาก|เขา ไป โรงเรียน ทุก วัน|แม่ ทำ อาหาร ใน ครัว|เด็ก เล่น ใน สวน
        ผม ชอบ อ่าน หนังสือ|รถไฟ ออก จาก สถานี|รัฐบาล ประกาศ นโยบาย ใหม่|เรา เรียน ภาษา ไทย|น้ำ ใน แม่น้ำ สูง ขึ้น""",
    "Lao": """ຂ້ອຍ ຮຽນ ພາສາ ລາວ|ລາວ ໄປ ໂຮງຮຽນ ທຸກ ມື້|ມື້ນີ້ ອາກາດ ດີ ຫຼາຍ|ພວກເຮົາ ຢູ່ ວຽງຈັນ|ແມ່ ເຮັດ ອາຫານ""",
    "Khmer": """ខ្ញុំ ទៅ សាលារៀន|ថ្ងៃនេះ អាកាស ល្អ ណាស់|គាត់ រៀន ភាសា ខ្មែរ|យើង រស់នៅ ភ្នំពេញ|ម្តាយ ធ្វើ ម្ហូប""",
    "Burmese": """ကျွန်တော် ကျောင်း သွား တယ်|ဒီနေ့ ရာသီဥတု ကောင်း တယ်|သူ စာအုပ် ဖတ် နေ တယ်|ကျွန်မ ထမင်း စား ပြီး ပြီ""",
}


def borders(words: list[str]) -> set[int]:
    """Where words meet, in characters from the start."""
    found, at = set(), 0
    for word in words[:-1]:
        at += len(word)
        found.add(at)
    return found


def cutter(file: Path) -> Callable[[str], list[str]]:
    """`split_words` of another module."""
    spec = importlib.util.spec_from_file_location("other_text", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Callable[[str], list[str]] = module.split_words
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--module", type=Path)
    args = parser.parse_args()
    cut = cutter(args.module) if args.module else split_words
    print("            sentences  words  precision, recall, F1        characters: F1   million characters a CPU second")
    for script, rows in GOLD.items():
        sentences = [row.split() for line in rows.split("\n") for row in line.strip().split("|")]
        right = made = characters = 0
        known = sum(len(borders(words)) for words in sentences)
        for words in sentences:
            mine = borders(cut("".join(words)))
            right += len(mine & borders(words))
            made += len(mine)
            characters += len("".join(words)) - 1
        precision, recall = right / made, right / known
        alone = 2 * known / (known + characters)  # every character a word: all borders found, and all others
        text = " ".join("".join(words) for words in sentences) * 300
        began = time.process_time()
        cut(text)
        rate = len(text) / (time.process_time() - began) / 1e6
        f1 = 2 * precision * recall / (precision + recall)
        print(
            f"{script:12}{len(sentences):8}{sum(map(len, sentences)):8}{precision:12.2f}{recall:8.2f}{f1:6.2f}"
            f"{alone:16.2f}{rate:20.1f}"
        )


if __name__ == "__main__":
    main()
