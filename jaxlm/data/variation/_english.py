"""Rules that vary an English utterance, written as CHILDES does.

A rule takes (words in lower or upper case without the final mark, the mark,
a numpy generator) and returns the same of the variant, or None where it does
not apply.
"""

from collections.abc import Callable, Sequence

Words = tuple[str, ...]
Utterance = tuple[Words, str]  # words and final mark

_MARKS = (".", "?", "!")
# Words that may stand in the place of one; not the other way round: "that" is
# often no article.
_EXCHANGES = {
  "the": ("this", "that", "your"),
  "your": ("the", "that"),
  "a": ("another", "one"),
  "big": ("great", "huge"),
  "little": ("small", "tiny"),
  "nice": ("pretty", "lovely"),
  "get": ("take", "grab"),
  "put": ("place",),
  "mommy": ("mama",),
  "daddy": ("papa",),
  "bunny": ("rabbit",),
  "doggie": ("dog", "puppy"),
  "dog": ("doggie", "puppy"),
  "kitty": ("cat",),
  "cat": ("kitty",),
  "baby": ("child",),
  "boy": ("fellow",),
  "want": ("need",),
  "see": ("find",),
  "eat": ("have",),
  "can": ("could",),
  "will": ("would",),
  "he": ("she",),
  "she": ("he",),
  "yes": ("yeah",),
  "yeah": ("yes",),
}
_BEFORE = ("now", "okay", "oh", "well", "look", "see", "so")
_BEHIND = ("honey", "sweetie", "okay", "huh")
_ADVERBS = ("here", "there", "now", "today", "again", "too", "then")
_PREPOSITIONS = ("in", "on", "at", "under", "with", "to", "into", "for")
_DETERMINERS = ("a", "an", "the", "this", "that", "your", "my", "his", "her")
_REQUESTS = (
  ("can", "you"),
  ("could", "you"),
  ("will", "you"),
  ("would", "you"),
  ("do", "you", "want", "to"),
  ("you", "want", "to"),
  ("why", "don't", "you"),
  ("let's",),
)
_ASKING = 5  # of them make a question of a request
# fmt: off
_VERBS = {
  "bring", "build", "come", "draw", "drink", "eat", "feed", "find", "fix",
  "get", "give", "go", "hold", "listen", "look", "make", "open", "pick",
  "play", "point", "pull", "push", "put", "read", "roll", "say", "see",
  "show", "shut", "sing", "sit", "stand", "stop", "take", "tell", "throw",
  "touch", "try", "turn", "wait", "wash", "watch",
}
# fmt: on
# A statement's first word, and how its question begins.
_INVERTED = {
  "that's": ("is", "that"),
  "it's": ("is", "it"),
  "there's": ("is", "there"),
  "he's": ("is", "he"),
  "she's": ("is", "she"),
  "this's": ("is", "this"),
  "you're": ("are", "you"),
  "they're": ("are", "they"),
  "we're": ("are", "we"),
}


def apply(rule: Callable, utterance: str, rng) -> str:
  """The variant of an utterance by one rule; "" where it does not apply."""
  made = rule(*split(utterance), rng)
  if made is None or not made[0]:
    return ""
  words, mark = made
  return " ".join([*words, mark] if mark else words)


def split(utterance: str) -> Utterance:
  """Words, and the mark at the end ("" where there is none)."""
  words = tuple(utterance.split())
  if words and words[-1] in _MARKS:
    return words[:-1], words[-1]
  return words, ""


def exchange(words: Words, mark: str, rng):
  """Puts a word of like use in the place of one."""
  at = [i for i, w in enumerate(words) if w in _EXCHANGES]
  if not at:
    return None
  index = at[rng.integers(len(at))]
  new = _any(_EXCHANGES[words[index]], rng)
  return (*words[:index], new, *words[index + 1 :]), mark


def add_before(words: Words, mark: str, rng):
  """Adds a word that calls for attention in front."""
  if words[:1] and words[0] in _BEFORE:
    return None
  return (_any(_BEFORE, rng), *words), mark


def add_behind(words: Words, mark: str, rng):
  """Adds a name or a tag at the end."""
  if words[-1:] and words[-1] in _BEHIND:
    return None
  return (*words, _any(_BEHIND, rng)), mark


def leave_out_before(words: Words, mark: str, rng):
  """Leaves out a word that called for attention."""
  del rng
  if len(words) < 3 or words[0] not in (*_BEFORE, "yeah", "and", "but"):
    return None
  return words[1:], mark


def leave_out_behind(words: Words, mark: str, rng):
  """Leaves out a name, a tag or an adverb at the end."""
  del rng
  if len(words) < 3 or words[-1] not in (*_BEHIND, *_ADVERBS):
    return None
  return words[:-1], mark


def shorten(words: Words, mark: str, rng):
  """Leaves the last noun phrase alone, from its determiner on."""
  del mark, rng
  at = [i for i, w in enumerate(words) if w in _DETERMINERS]
  if not at or not 0 < at[-1] < len(words) - 1:
    return None
  return words[at[-1] :], "."


def to_the_front(words: Words, mark: str, rng):
  """Moves an adverb or a prepositional phrase from the end to the front."""
  del rng
  if len(words) > 2 and words[-1] in _ADVERBS:
    return (words[-1], *words[:-1]), mark
  at = [i for i, w in enumerate(words) if w in _PREPOSITIONS and i > 1]
  if not at or not 1 < len(words) - at[-1] < 5:
    return None
  return (*words[at[-1] :], *words[: at[-1]]), mark


def ask(words: Words, mark: str, rng):
  """A request or a statement becomes a question."""
  if mark == "?" or not words:
    return None
  if words[0].lower() in _INVERTED and len(words) > 1:
    return (*_INVERTED[words[0].lower()], *words[1:]), "?"
  if words[0] not in _VERBS:
    return None
  start = _REQUESTS[rng.integers(_ASKING)]
  return (*start, *words), "?"


def tell(words: Words, mark: str, rng):
  """A question becomes a request or a statement."""
  del mark, rng
  for start in _REQUESTS:
    rest = words[len(start) :]
    if words[: len(start)] == start and rest:
      return rest, "."
  for one, two in _INVERTED.items():
    if words[:2] == two and len(words) > 2 and one != "this's":
      return (one, *words[2:]), "."
  return None


RULES: Sequence[Callable] = (
  exchange,
  add_before,
  add_behind,
  leave_out_before,
  leave_out_behind,
  shorten,
  to_the_front,
  ask,
  tell,
)


def _any(words: Sequence[str], rng) -> str:
  return words[rng.integers(len(words))]
