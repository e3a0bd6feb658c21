"""Uploads that mean harm, made on the spot."""

from __future__ import annotations

import gzip
import io
import random
import zipfile
import zlib
from collections.abc import Iterator
from struct import pack

from PIL import Image

Case = tuple[str, bytes]
"""A name and a content."""

NAMES = [
    *("../../../../tmp/escaped.mp4", "/etc/passwd", "..\\..\\escaped.mp4", "C:\\escaped.mp4", "\\\\host\\share\\a.mp4"),
    *("....//....//escaped.mp4", "%2e%2e%2fescaped.mp4", "file:///etc/passwd", "http://127.0.0.1/a.mp4", "~/a.mp4"),
    *("concat:a.mp4|b.mp4", "pipe:0", "fd:0", "subfile,,start,0,end,9,,:a.mp4", "a%03d.png", "*.mp4", "a.m3u8"),
    *("-i.mp4", "--help", "a;rm -rf b.mp4", "$(touch escaped).mp4", "`touch escaped`.mp4", "a\tb.mp4", "a\x7fb.mp4"),
    *("NUL", "CON.mp4", ".", "..", " ", "x" * 3000, "<script>alert(1)</script>.mp4", "‮gpj.4pm", "视频.mp4", "a'b.mp4"),
]


def form(name: str, content: bytes, boundary: str = "x") -> bytes:
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode()


def malformed(content: bytes) -> Iterator[Case]:
    """Bodies that are no good form with boundary `x`."""
    whole = form("a.png", content)
    yield from ((f"cut {at}", whole[:at]) for at in (0, 1, 3, 5, 30, 70, 80, len(whole) - 8, len(whole) - 5))
    head, end = b'--x\r\nContent-Disposition: form-data; name="file"', b"\r\n--x--\r\n"
    yield "nothing in it", b"--x--\r\n"
    yield "no header", b"--x\r\n\r\n" + content + end
    yield "no disposition", b"--x\r\nContent-Type: video/mp4\r\n\r\n" + content + end
    yield "other disposition", b'--x\r\nContent-Disposition: attachment; filename="a"\r\n\r\n' + content + end
    yield "no name", b'--x\r\nContent-Disposition: form-data; filename="a"\r\n\r\n' + content + end
    yield "bare newlines", whole.replace(b"\r\n", b"\n")
    yield "no colon", b"--x\r\nContent-Disposition\r\n\r\n" + content + end
    yield "open quote", head + b'; filename="a\r\n\r\n' + content + end
    yield "header without end", head + b"; filename=" + b"a" * 20_000
    yield "many headers", head + b'; filename="a"\r\n' + b"X: y\r\n" * 5_000 + b"\r\n" + content + end
    yield "many parts", b"--x\r\n\r\n\r\n" * 5_000 + b"--x--\r\n"
    yield "many fields", b'--x\r\nContent-Disposition: form-data; name="beam"\r\n\r\n3\r\n' * 5_000 + b"--x--\r\n"
    yield "long preamble", b"y" * 300_000 + b"\r\n" + whole
    yield "long epilogue", whole + b"y" * 300_000
    yield "other boundary", form("a.png", content, "y")
    yield "not utf-8", whole.replace(b"a.png", b"\xff\xfe\xc0\x80")
    yield "nul in the name", whole.replace(b"a.png", b"a\0b.png")
    yield "base64", head + b'; filename="a"\r\nContent-Transfer-Encoding: base64\r\n\r\n' + content + end
    yield "states a length", head + b'; filename="a"\r\nContent-Length: 99999999999\r\n\r\n' + content + end
    yield "states less", head + b'; filename="a"\r\nContent-Length: 1\r\n\r\n' + content + end
    yield "nested", b"--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n" + form("a", content, "y") + end
    yield "random", random.Random(0).randbytes(100_000)


def playlists(target: str) -> Iterator[Case]:
    """Files that try to make whoever reads them open `target`, an address or a path."""
    hls = f"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:10.0,\n{target}\n#EXT-X-ENDLIST\n"
    yield "hls.m3u8", hls.encode()
    yield "hls.mp4", hls.encode()
    yield "bom.m3u8", b"\xef\xbb\xbf" + hls.encode()
    yield "utf16.m3u8", hls.encode("utf-16")
    yield "blank.m3u8", b"\r\n  \t" + hls.encode()
    yield "case.m3u8", hls.lower().encode()
    yield "key.m3u8", f'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{target}"\n#EXTINF:1,\n{target}\n'.encode()
    yield "master.m3u8", f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{target}\n".encode()
    yield "map.m3u8", f'#EXTM3U\n#EXT-X-MAP:URI="{target}"\n#EXTINF:1,\n{target}\n'.encode()
    yield "concat.m3u8", f"#EXTM3U\n#EXTINF:1,\nconcat:{target}|subfile,,start,0,end,9,,:{target}\n".encode()
    yield "concat.txt", f"ffconcat version 1.0\nfile '{target}'\n".encode()
    yield "concat.ffconcat", f"file '{target}'\nfile '{target}'\n".encode()
    yield "manifest.mpd", f'<?xml version="1.0"?>\n<MPD><Period><BaseURL>{target}</BaseURL></Period></MPD>'.encode()
    entity = f'<?xml version="1.0"?><!DOCTYPE MPD [<!ENTITY x SYSTEM "{target}">]><MPD><BaseURL>&x;</BaseURL></MPD>'
    yield "entity.mpd", entity.encode()
    yield (
        "session.sdp",
        b"v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=x\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=video 9 RTP/AVP 96",
    )
    yield "list.pls", f"[playlist]\nFile1={target}\nNumberOfEntries=1\n".encode()
    yield "list.asx", f'<asx version="3"><entry><ref href="{target}"/></entry></asx>'.encode()
    yield (
        "list.xspf",
        f"<playlist><trackList><track><location>{target}</location></track></trackList></playlist>".encode(),
    )
    yield "list.smil", f'<smil><body><video src="{target}"/></body></smil>'.encode()
    yield "list.ism", f'<SmoothStreamingMedia><c><f n="{target}"/></c></SmoothStreamingMedia>'.encode()
    yield "reference.asf", f"[Reference]\nRef1={target}\n".encode()
    yield "picture.svg", f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{target}"/></svg>'.encode()
    yield "list.cpl", f"<CompositionPlaylist><Id>{target}</Id></CompositionPlaylist>".encode()
    yield "script.avs", f'AVISource("{target}")\n'.encode()
    yield "script.vpy", f"import os; os.open('{target}', 0)\n".encode()
    yield "names.webm_dash", f"#EXTM3U8\n{target}".encode()
    yield "subtitles.avi", avi_with_subtitles(hls.encode())
    yield "hidden.mp3", b"ID3\x04\0\0\0\0\0\0" + hls.encode()
    yield "index.idx", f"# VobSub index file, v7\nid: en\n{target}\n".encode()
    yield "rtsp.mov", f"RTSPtextRTSP {target}\n".encode()


def chunk(kind: bytes, content: bytes) -> bytes:
    return kind + pack("<I", len(content)) + content + b"\0" * (len(content) % 2)


def avi_with_subtitles(subtitles: bytes) -> bytes:
    """An AVI whose subtitle track holds a file of its own, which FFmpeg opens: here a playlist."""
    avih = pack("<14I", 40_000, 0, 0, 0x10, 1, 0, 1, 0, 64, 64, 0, 0, 0, 0)
    strh = b"txts" + pack("<4sIHHIIIIIIII4H", b"\0\0\0\0", 0, 0, 0, 0, 1, 25, 0, 1, 0, 0, 0, 0, 0, 0, 0)
    track = chunk(b"LIST", b"strl" + chunk(b"strh", strh) + chunk(b"strf", b""))
    packet = b"GAB2\0" + pack("<HI", 2, 2) + b"x\0" + pack("<HI", 4, len(subtitles)) + subtitles
    movi = chunk(b"LIST", b"movi" + chunk(b"00tx", packet))
    return chunk(b"RIFF", b"AVI " + chunk(b"LIST", b"hdrl" + chunk(b"avih", avih) + track) + movi)


def bombs() -> Iterator[Case]:
    """Small files, or headers, that promise enormous content."""
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clip.mp4", bytes(20_000_000))
    yield "bomb.zip", zipped.getvalue()
    yield "bomb.gz", gzip.compress(bytes(20_000_000), 1)
    yield "bomb.mp4", zipped.getvalue()
    for side in (8193, 65_535, 2**31 - 1):
        yield f"{side}.png", png(side, side)
        yield f"{side} wide.png", png(side, 1)
        yield (
            f"{side}.bmp",
            b"BM" + pack("<IIIIiiHHIIiiII", 90, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0) + b"\0" * 36,
        )
        yield f"{side}.y4m", f"YUV4MPEG2 W{side} H{side} F25:1\nFRAME\n".encode() + bytes(1000)
        yield f"{side}.pgm", f"P5 {side} {side} 255\n".encode() + bytes(1000)
    yield "screen.gif", b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff" + frame(65_535, 65_535) * 200 + b";"
    yield "frames.gif", b"GIF89a\1\0\1\0\x80\0\0\0\0\0\xff\xff\xff" + frame(1, 1) * 300_000 + b";"
    yield "endless.y4m", b"YUV4MPEG2 W2 H2 F25:1\n" + (b"FRAME\n" + bytes(6)) * 1_000_000
    yield "fast.y4m", b"YUV4MPEG2 W2 H2 F1000000:1\n" + (b"FRAME\n" + bytes(6)) * 40_000
    yield "large.png", picture(4000, 4000)
    yield "tall.png", picture(1, 8000)
    yield "zeros.avi", chunk(b"RIFF", b"AVI " + bytes(5_000_000))
    yield "ones.ts", b"\x47" * 5_000_000
    yield "boxes.mp4", (pack(">I", 8) + b"free") * 500_000
    yield "deep.mp4", b"".join(pack(">I", 8 * (20_000 - depth)) + b"moov" for depth in range(20_000))
    yield "size.mp4", pack(">I4sQ", 1, b"moov", 2**63 - 1) + bytes(100)
    yield "void.mkv", b"\x1a\x45\xdf\xa3\x01\xff\xff\xff\xff\xff\xff\xff" + b"\xec\x80" * 1_000_000
    yield "words.txt", b"a man a plan a canal " * 200_000
    yield "program", b"\x7fELF" + bytes(100_000)


def png(width: int, height: int) -> bytes:
    def part(kind: bytes, content: bytes) -> bytes:
        return pack(">I", len(content)) + kind + content + pack(">I", zlib.crc32(kind + content))

    header = pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", data) + part(b"IEND", b"")


def frame(width: int, height: int) -> bytes:
    """One frame of a GIF, without pixels enough."""
    return b"!\xf9\4\0\0\0\0\0," + pack("<4HB", 0, 0, width, height, 0) + b"\2\2\x44\1\0"


def picture(width: int, height: int) -> bytes:
    """A PNG within the limits."""
    out = io.BytesIO()
    Image.new("L", (width, height)).save(out, "png")
    return out.getvalue()


def damaged(name: str, content: bytes, count: int) -> Iterator[Case]:
    """A media file with bytes changed, left out, doubled or cut."""
    rng = random.Random(name)
    for number in range(count):
        changed = bytearray(content)
        for _ in range(rng.choice([1, 4, 60])):
            at, length = rng.randrange(len(changed)), rng.randrange(1, 60)
            match rng.randrange(5):
                case 0:
                    changed[at : at + length] = rng.randbytes(length)
                case 1:
                    del changed[at : at + length]
                case 2:
                    changed[at:at] = changed[at : at + length]
                case 3:
                    changed[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
                case _ if len(changed) > 200 and rng.random() < 0.1:
                    del changed[rng.randrange(100, len(changed)) :]
        yield f"{number} {name}", bytes(changed)


def raw_requests() -> Iterator[Case]:
    """What is hardly HTTP."""
    post = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=x\r\n"
    yield "nothing", b"\r\n\r\n"
    yield "words", b"what is this\r\n\r\n"
    yield "tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n"
    yield "http/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    yield "http/9", b"GET / HTTP/9.9\r\nHost: x\r\n\r\n"
    yield "no host", b"GET /health HTTP/1.1\r\n\r\n"
    yield "two lengths", post + kind + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"
    yield "length and chunks", post + kind + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    yield "negative length", post + kind + b"Content-Length: -1\r\n\r\n"
    yield "enormous length", post + kind + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"
    yield "endless length", post + kind + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n"
    yield "bad chunk", post + kind + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"
    yield "enormous chunk", post + kind + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 30 + b"\r\n"
    yield "unknown coding", post + kind + b"Transfer-Encoding: gzip\r\n\r\n"
    yield "long header", post + b"X: " + b"y" * 100_000 + b"\r\n\r\n"
    yield "many headers", post + b"X: y\r\n" * 20_000 + b"\r\n"
    yield "long address", b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "nul in a header", post + b"X: a\0b\r\n\r\n"
    yield "split header", b"GET /health HTTP/1.1\r\nHost: x\r\nX: a\nInjected: b\r\n\r\n"
    yield "no boundary", post + b"Content-Type: multipart/form-data\r\nContent-Length: 3\r\n\r\nabc"
    yield (
        "long boundary",
        post + b"Content-Type: multipart/form-data; boundary=" + b"x" * 9000 + b"\r\nContent-Length: 3\r\n\r\nabc",
    )
    yield (
        "boundary not ascii",
        post + b"Content-Type: multipart/form-data; boundary=\xff\xfe\r\nContent-Length: 3\r\n\r\nabc",
    )
    yield "proxy", b"GET http://127.0.0.1:9/ HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n"
    yield "connect", b"CONNECT 127.0.0.1:9 HTTP/1.1\r\nHost: 127.0.0.1:9\r\n\r\n"
    yield "traversal", b"GET /static/../../../../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "encoded traversal", b"GET /static/%2e%2e/%2e%2e/%2e%2e/app.py HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "nul in the address", b"GET /static/%00 HTTP/1.1\r\nHost: x\r\n\r\n"
    yield "not utf-8", b"GET /static/%ff%fe?%ff=%fe HTTP/1.1\r\nHost: x\r\n\r\n"
    yield (
        "websocket",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n\r\n",
    )
