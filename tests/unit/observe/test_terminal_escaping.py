"""What is escaped, and that nothing else is."""

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.observe.terminal_escaping import printable


def test_control_characters_are_spelled_out():
    assert printable("a\nb\x1b[2J\x9b\u202e\u2028\ufeff\ud800") == (
        "a\\u000ab\\u001b[2J\\u009b\\u202e\\u2028\\ufeff\\ud800"
    )


@given(st.text(st.characters(exclude_categories=["C", "Z"]) | st.just(" ")))
def test_visible_text_of_any_script_stays(text):
    assert printable(text) == text


@given(st.text(st.characters()))
@example("half a pair \ud800\udfff")
def test_the_result_can_be_encoded_and_stays_on_one_line(text):
    result = printable(text)
    result.encode()
    assert len(result.splitlines()) <= 1


def test_whatever_is_unsafe_is_spelled_out_among_what_is_not():
    for code in (*range(0x20), *range(0x7F, 0xA0), 0x061C, 0x200B, 0x200E, 0x200F, *range(0x2028, 0x202F)):
        assert printable(f"lamp-1 {chr(code)}é") == f"lamp-1 \\u{code:04x}é"
    for code in (*range(0x2060, 0x206A), 0xFEFF, *range(0xD800, 0xE000)):
        assert printable(f"lamp-1 {chr(code)}é") == f"lamp-1 \\u{code:04x}é"
