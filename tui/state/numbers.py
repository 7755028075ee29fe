"""Numbers in few characters."""


def short(count: int) -> str:
    """Return a count in at most three digits and a letter: 850, 44.4K, 11.7M, 3.64G."""
    return "".join(scaled(count))


_PREFIXES = ("", "K", "M", "G", "T", "P")


def scaled(count: int) -> tuple[str, str]:
    """Return a count in at most three digits, and the letter that goes with them: ("44.4", "K")."""
    if count < 1000:
        return str(count), ""
    value = float(count)
    for prefix in _PREFIXES:
        if value < 999.5 or prefix == _PREFIXES[-1]:
            break
        value /= 1000
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f}", prefix


def in_bytes(size: int) -> str:
    """Return a size in few characters: 1.31 MB."""
    value, prefix = scaled(size)
    return f"{value} {prefix}B"


def gigabytes(count: float) -> str:
    """Return bytes in units of 2**30, as memory is sold: 0.4, 11.2, 640."""
    value = count / 2**30
    return f"{value:.1f}" if value < 99.95 else f"{value:.0f}"


def size_in_gigabytes(count: float) -> str:
    """Return bytes as `gigabytes` does, for what never changes: without `.0`."""
    return gigabytes(count).removesuffix(".0")


def percent(share: float) -> str:
    """Return a share of 1 in whole percents, right-aligned so that nothing beside it moves: ` 97%`."""
    return f"{100 * share:3.0f}%"


def duration(seconds: float) -> str:
    """Return a time in its two largest units: 7s, 3m 05s, 2h 10m, 4d 03h."""
    whole = round(seconds)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if not minutes:
        return f"{whole}s"
    if not hours:
        return f"{minutes}m {whole % 60:02}s"
    return f"{hours}h {minutes % 60:02}m" if not days else f"{days}d {hours % 24:02}h"


def clock(seconds: float) -> str:
    """Return a time as a clock shows it: 0:07, 3:05, 2:10:00."""
    whole = max(round(seconds), 0)
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def rate(value: float) -> str:
    """Return a learning rate in three digits, at most eight characters: 0.003, 0.00288, 4.25e-5, 1.2e-12."""
    mantissa, _, exponent = f"{value:.3g}".partition("e")
    return f"{mantissa}e{int(exponent)}" if exponent else mantissa


def factor(value: float) -> str:
    """Return a factor in three digits: x1.67."""
    return f"x{value:.3g}"
