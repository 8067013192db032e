"""Quick compilation for these tests."""

from tests.tiny import quick_compilation as quick_compilation
