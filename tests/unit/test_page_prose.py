"""What models write, as HTML: nothing of it is markup that it brought along, and nothing of it is lost."""

from __future__ import annotations

import re
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentq.web.page.prose import prose

PRE = '<pre class="text" tabindex="0">'
REL = 'rel="noopener noreferrer nofollow"'
_TAGS = re.compile(
    r'</?(?:p|strong|ul|li|code|pre|ol|a)>|<ol start="\d+">|<pre class="text" tabindex="0">'
    r'|<a href="https?://[^"<>]*" rel="noopener noreferrer nofollow">'
)


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("Hello", "<p>Hello</p>"),
        ("one\ntwo\n\nthree", "<p>one\ntwo</p><p>three</p>"),
        ("# Sum\nof **all** `x<1`", "<p><strong>Sum</strong></p><p>of <strong>all</strong> <code>x&lt;1</code></p>"),
        ("Look:\n- a\n- b\n  more\n\nend", "<p>Look:</p><ul><li>a</li><li>b\nmore</li></ul><p>end</p>"),
        ("3. a\n\n4. b", '<ol start="3"><li>a</li><li>b</li></ol>'),
        ("```py\nif a < b:\n    - c\n```\nok", f"{PRE}<code>if a &lt; b:\n    - c</code></pre><p>ok</p>"),
        ("```\nopen", f"{PRE}<code>open</code></pre>"),
        ("[a](https://b.example/?c=1&d)", f'<p><a href="https://b.example/?c=1&amp;d" {REL}>a</a></p>'),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ('[a](https://b"onclick="c)', f'<p><a href="https://b&#34;onclick=&#34;c" {REL}>a</a></p>'),
        ("<b>no</b> 2 * 3 ** 4 [x] -5", "<p>&lt;b&gt;no&lt;/b&gt; 2 * 3 ** 4 [x] -5</p>"),
        ("", ""),
    ],
)
def test_it_reads_as_it_was_meant(text: str, html: str):
    assert prose(text) == html


@given(st.lists(st.sampled_from([*"ab1 \n`*#[]()<>&\"'-.~:/", "https://", "\n- ", "**", "```\n"])).map("".join))
def test_there_is_no_markup_but_ours(text: str):
    left = _TAGS.sub(" ", prose(text))
    assert "<" not in left
    assert ">" not in left


@given(st.text("ab \n<>&'\"/"))
def test_what_is_no_markdown_stays_as_it_was(text: str):
    told = unescape(re.sub("</?p>", "\n", prose(text)))
    assert told.split() == text.split()


@pytest.mark.parametrize("piece", ["[", "**", "`", "- ", "\n- ", "[a](https://", "~~~\n", "#", " "])
def test_no_text_makes_it_slow(piece: str):
    assert len(prose(piece * 40_000)) < 4_000_000
