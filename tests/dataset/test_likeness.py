"""Likeness: what tells two texts apart, and what does not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peregrm.dataset.likeness import fullness, state_different_things


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("allergic to peanuts", "allergic to shellfish"),
        ("My son is three", "My daughter is three"),
        ("Jan lives in Leeds", "Jane lives in Leeds"),
        ("She likes loud parties", "He likes loud parties"),
        ("I was a nurse", "I'm a nurse"),
        ("I moved to Leeds", "I moved from Leeds"),
        ("has hepatitis B", "has hepatitis C"),
        ("has 2 cats", "has 3 cats"),
        ("has two cats", "has three cats"),
        ("I like tea", "I don’t like tea"),
        ("I eat meat", "I dont eat meat"),
        ("He is home", "He isnt home"),
        ("I have eaten meat", "I havent eaten meat"),
        ("I was there", "I wasnt there"),
        ("She eats meat", "She doesnt eat meat"),
        ("I went there", "I didnt went there"),
        ("He isn't a nurse", "He wasn't a nurse"),
        ("I don't like tea", "I don't like tea, not any coffee"),
        ("나는 고기를 먹는다", "나는 고기를 안 먹는다"),
        ("Ik eet vlees", "Ik eet geen vlees"),
        ("Jag äter kött", "Jag äter inte kött"),
        ("Ich rauche", "Ich rauche nie"),
        ("肉を食べます", "肉を食べません"),
        ("मैं मांस खाता हूँ", "मैं मांस नहीं खाता हूँ"),
        ("我抽烟", "我从未抽烟"),
        ("我特别喜欢吃鱼", "我特别不喜欢吃鱼"),
        ("I hate my job", "I almost hate my job"),
        ("I eat meat", "I rarely eat meat"),
        ("I live in Leeds", "I used to live in Leeds"),
        ("I move to Leeds", "I want to move to Leeds"),
        ("I like to cook", "I'd like to cook"),
        ("我迟到了", "我差点迟到了"),
        ("I moved from Leeds to Bristol.", "I moved from Bristol to Leeds."),
        ("I moved from Leeds to Bristol.", "I moved to Leeds from Bristol."),
        ("I moved from Leeds to Bristol.", "In May I moved from Bristol to Leeds."),
        ("I don't drink coffee, I drink tea.", "I don't drink tea, I drink coffee."),
        ("I love dogs more than cats.", "I love cats more than dogs."),
        ("My mother left my father for good.", "My father left my mother for good."),
        ("She left him", "He left her"),
        ("我不吃鱼，我吃肉。", "我不吃肉，我吃鱼。"),
        ("我住在上海，我妈妈住在北京。", "我住在北京，我妈妈住在上海。"),
        ("has hepatitis A", "has hepatitis B"),
        ("A friend has hepatitis A", "A friend has hepatitis B"),
        ("has type I diabetes", "has type II diabetes"),
        ("Programs in C++ at work", "Programs in C# at work"),
        ("Programs in C at work", "Programs in C++ at work"),
        ("मुझे दाल पसंद है", "मुझे दूल पसंद है"),
        ("मेरा लड़का छोटा", "मेरा लड़की छोटा"),
        ("我女儿三岁了", "我儿子三岁了"),
        ("我今年四十二岁", "我今年二十四岁"),
        ("мой племянник живёт дома", "моя племянница живёт дома"),
    ],
)
def test_each_side_says_what_the_other_does_not(one: str, other: str) -> None:
    assert state_different_things(one, other)
    assert state_different_things(other, one)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("I don't eat mushrooms", "Remember, I dont eat mushrooms!"),
        ("I love loud parties", "I really loved a loud party"),
        ("She stopped smoking", "She has stopped to smoke"),
        ("My favourite colour is red", "my favorite color's red"),
        ("I organise trips", "I organized a trip"),
        ("My sister's in Leeds", "my sister is in Leeds with the kids"),
        ("喜欢在周末爬山", "喜欢周末爬山"),
        ("сестра живёт дома", "сестру живёт дома"),
        ("", "anything"),
        ("I HAVE A DOG", "I have a dog called Rex"),
        ("A dog lives with us", "Our dog lives with us in a big house"),
        ("She calls me 'mother' here", "She always calls me mother here"),
        ("She isn't home", "She isnt home these days"),
        ("I cannot swim", "I can't swim in the sea"),
        ("I don’t eat meat", "I do not eat meat at home"),
        ("I was nice to her", "I was nice to her family"),
        ("我喜欢吃鱼", "我特别喜欢吃鱼"),
        ("我喜欢吃鱼", "我和别人分别喜欢吃鱼"),
        ("我喜欢这只狗", "我很喜欢这只不错的狗"),
        ("우리 집은 서울에 있다", "우리 집은 안전한 서울에 있다"),
        ("I moved from Leeds to Bristol", "Last May I moved from Leeds to sunny Bristol"),
        ("Programs in C++", "Programs in C++ at work"),
        ("has hepatitis A", "has hepatitis A since the war"),
        ("मुझे दाल पसंद है", "मुझे दाल बहुत पसंद है"),
    ],
)
def test_inflections_spellings_and_additions_may_say_the_same(one: str, other: str) -> None:
    assert not state_different_things(one, other)
    assert not state_different_things(other, one)


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_order_of_two_texts_does_not_matter_and_a_text_agrees_with_itself(one: str, other: str) -> None:
    assert state_different_things(one, other) == state_different_things(other, one)
    assert not state_different_things(one, one)


def test_fullness_counts_what_tells_facts_apart() -> None:
    assert fullness("I'm really allergic to the peanuts") == 2
    assert fullness("I'm allergic to peanuts and shellfish") == 3
    assert fullness("") == 0
