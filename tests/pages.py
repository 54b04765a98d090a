"""A page read back: what it refers to, and whether its tags nest."""

from html.parser import HTMLParser

VOID = {"meta", "img", "line", "polyline", "circle", "br", "i", "link"}


class Page(HTMLParser):
    """Collects what a page refers to, and checks that its tags nest."""

    def __init__(self, text):
        super().__init__()
        self.open, self.sources, self.tags = [], [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.sources += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag
