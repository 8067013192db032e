from tests.tiny import quick_compilation as quick_compilation
