"""Values of typeset pages in the styles that people write them in, and the fields that carry them.

Every function takes the page's own generator and a `TextSource`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from numpy.random import Generator

from ixc.nano.data.typeset.text import TextSource
from ixc.synth.lexicon import MONTHS

DIGITS, CAPITALS = "0123456789", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
MIXED = CAPITALS + DIGITS + "abcdefghijklmnopqrstuvwxyz"


def one_of(rng: Generator, options: tuple[str, ...] | list[str] | str) -> str:
    """One entry, all equally likely."""
    return options[int(rng.integers(len(options)))]


def letters(rng: Generator, alphabet: str, least: int, most: int) -> str:
    """A random string of so many characters."""
    return "".join(one_of(rng, alphabet) for _ in range(int(rng.integers(least, most + 1))))


def date(rng: Generator, text: TextSource) -> str:
    """A date in one of ten styles."""
    year, month, day = int(rng.integers(1950, 2045)), int(rng.integers(1, 13)), int(rng.integers(1, 29))
    name = MONTHS[month - 1]
    return one_of(
        rng,
        [
            f"{year}-{month:02d}-{day:02d}",
            f"{day:02d}.{month:02d}.{year}",
            f"{day:02d}/{month:02d}/{year}",
            f"{month}/{day}/{year % 100:02d}",
            f"{day} {name} {year}",
            f"{name} {day}, {year}",
            f"{day} {name[:3]} {year}",
            f"{name[:3]}. {day}, {year}",
            f"{day}. {name} {year}",
            f"{name} {year}",
        ],
    )


def time(rng: Generator, text: TextSource) -> str:
    """A time of day."""
    hour, minute = int(rng.integers(24)), int(rng.integers(60))
    half = "am" if hour < 12 else "pm"
    return one_of(
        rng, [f"{hour:02d}:{minute:02d}", f"{hour:02d}:{minute:02d}", f"{hour % 12 or 12}:{minute:02d} {half}"]
    )


def amount(rng: Generator, text: TextSource) -> str:
    """Money: signs and codes before and behind, points and commas."""
    value = float(10 ** rng.uniform(0, 5))
    number = f"{value:,.2f}" if rng.random() < 0.8 else f"{value:,.0f}"
    r = rng.random()
    if r < 0.3:
        number = number.replace(",", " ").replace(".", ",") if r < 0.1 else number.translate({44: ".", 46: ","})
    sign = one_of(rng, ("$", "€", "£", "EUR ", "USD ", "CHF ", "¥", ""))
    return sign + number if rng.random() < 0.6 else f"{number} {sign.strip() or '€'}"


def number(rng: Generator, text: TextSource) -> str:
    """A count, a percentage or a measure."""
    value = 10 ** rng.uniform(0, 5)
    digits = f"{value:,.0f}" if rng.random() < 0.6 else f"{value:.{int(rng.integers(1, 4))}f}"
    return digits + one_of(rng, ("", "", "", "%", " %", " kg", " km", " m²", " pcs", " °C", " mm", " kWh", " h"))


def code(rng: Generator, text: TextSource) -> str:
    """A reference: letters and digits in groups."""
    groups = int(rng.integers(1, 4))
    joint = one_of(rng, ("-", "-", "/", " ", ".", ""))
    alphabets = (DIGITS, CAPITALS, CAPITALS + DIGITS, MIXED)
    return joint.join(letters(rng, one_of(rng, alphabets), 2, 6) for _ in range(groups))  # type: ignore[arg-type]


def phone(rng: Generator, text: TextSource) -> str:
    """A telephone number."""
    parts = [letters(rng, DIGITS, 3, 4) for _ in range(int(rng.integers(2, 4)))]
    front = one_of(rng, ("", "+", "+1 ", "+49 ", "+44 (0)", "0", "("))
    return front + (f"{parts[0]}) {' '.join(parts[1:])}" if front == "(" else one_of(rng, " -/.").join(parts))


def iban(rng: Generator, text: TextSource) -> str:
    """A bank account."""
    country = one_of(rng, ("DE", "FR", "NL", "GB", "ES", "IT", "CH"))
    return country + letters(rng, DIGITS, 2, 2) + "".join(" " + letters(rng, DIGITS, 4, 4) for _ in range(4))


def email(rng: Generator, text: TextSource) -> str:
    """An address for mail."""
    user = one_of(rng, ("info", "office", "billing", text.word(rng).lower()))
    return f"{user}@{text.word(rng).lower()}.{one_of(rng, ('com', 'org', 'de', 'net', 'example', 'fr', 'io'))}"


def url(rng: Generator, text: TextSource) -> str:
    """An address on the web."""
    front = one_of(rng, ("www.", "https://", "https://www.", "http://"))
    path = f"/{text.word(rng).lower()}" if rng.random() < 0.5 else ""
    return f"{front}{text.word(rng).lower()}.{one_of(rng, ('com', 'org', 'net', 'eu'))}{path}"


def words(rng: Generator, text: TextSource) -> str:
    """One to six words."""
    return text.words(rng, 1, 6)


def person(rng: Generator, text: TextSource) -> str:
    """A name."""
    return text.name(rng)


def company(rng: Generator, text: TextSource) -> str:
    """A firm."""
    return text.company(rng)


def place(rng: Generator, text: TextSource) -> str:
    """A town."""
    return text.place(rng)


def address(rng: Generator, text: TextSource) -> str:
    """A street and a town."""
    return text.address(rng)


def any_value(rng: Generator, text: TextSource) -> str:
    """A value of any kind; a third are words."""
    kinds = (words, words, words, words, date, time, amount, number, code, code, phone, email, url, iban, person)
    return kinds[int(rng.integers(len(kinds)))](rng, text)


@dataclass(frozen=True, kw_only=True)
class Field:
    """A field of a form: how it is labelled, how people ask for it, what stands there."""

    labels: tuple[str, ...]
    asked: tuple[str, ...]
    value: Callable[[Generator, TextSource], str]


FIELDS: dict[str, Field] = {
    "number": Field(
        labels=("Invoice no.", "Invoice number", "Invoice #", "Number", "No.", "Rechnung Nr.", "Facture n°", "Factura"),
        asked=("what's the invoice number", "Which invoice is this?", "invoice no?", "What number does it have?"),
        value=code,
    ),
    "date": Field(
        labels=("Date", "Issued", "Date of issue", "Invoice date", "Datum", "Fecha", "Data", "Date d'émission"),
        asked=("What is the date?", "When was it issued?", "date?", "From when is it?"),
        value=date,
    ),
    "due": Field(
        labels=("Due", "Due date", "Payment due", "Pay by", "Fällig am", "Échéance"),
        asked=("When is it due?", "By when must it be paid?", "due date?", "Until when do I have to pay?"),
        value=date,
    ),
    "total": Field(
        labels=("Total", "Amount due", "Grand total", "TOTAL", "Balance due", "Gesamtbetrag", "Summe", "Totale"),
        asked=("What is the total?", "Total?", "How much is it?", "What do I have to pay?", "total amount"),
        value=amount,
    ),
    "tax": Field(
        labels=("VAT", "Tax", "Sales tax", "VAT 20%", "MwSt.", "TVA", "IVA"),
        asked=("How much is the tax?", "What is the VAT?", "tax?"),
        value=amount,
    ),
    "customer": Field(
        labels=("Customer", "Bill to", "Client", "Sold to", "Name", "Kunde", "Client n°"),
        asked=("Who is the customer?", "customer?", "Who is it billed to?", "What's the name of the client?"),
        value=person,
    ),
    "seller": Field(
        labels=("From", "Seller", "Supplier", "Vendor", "Issued by", "Company"),
        asked=("Who is the seller?", "Which company is it from?", "Who issued it?", "vendor?"),
        value=company,
    ),
    "address": Field(
        labels=("Address", "Ship to", "Delivery address", "Anschrift", "Adresse"),
        asked=("What is the address?", "Where is it shipped to?", "address?"),
        value=address,
    ),
    "phone": Field(
        labels=("Phone", "Tel.", "Tel", "Telephone", "Mobile", "Telefon"),
        asked=("What is the phone number?", "What number can I call?", "phone?"),
        value=phone,
    ),
    "email": Field(
        labels=("E-mail", "Email", "Mail", "Contact"),
        asked=("What is the e-mail address?", "email?", "Where can I write to?"),
        value=email,
    ),
    "iban": Field(labels=("IBAN", "Account", "Konto"), asked=("What is the IBAN?", "Which account?"), value=iban),
    "reference": Field(
        labels=("Reference", "Ref.", "Your ref.", "Order no.", "PO number", "Aktenzeichen", "Case"),
        asked=("What is the reference?", "reference?", "Which order is it?"),
        value=code,
    ),
    "place": Field(
        labels=("Place", "City", "Destination", "Venue", "Ort", "Lieu"),
        asked=("Where is it?", "Which city?", "What is the place?"),
        value=place,
    ),
    "time": Field(
        labels=("Time", "Departure", "Begins", "Doors open", "Check-in", "Hours"),
        asked=("At what time?", "When does it begin?", "time?"),
        value=time,
    ),
    "web": Field(labels=("Web", "Website", "Online"), asked=("What is the website?", "website?"), value=url),
}
"""What forms, invoices and letters name."""

__all__ = ["FIELDS", "Field", "any_value"]
