"""Names of measures, parameters, pictures and tables in letters that MLflow takes."""

import re
import unicodedata


def mlflow_name(name: str) -> str:
    """Return a name without what MLflow refuses: other letters than ASCII, signs, and parts that are no path.

    MLflow keeps names as files. It refuses a whole batch of measures or parameters for one name in it.

    Example:
        >>> mlflow_name("val/diversity@5"), mlflow_name("val/Käuzchen"), mlflow_name("a:b"), mlflow_name("../up")
        ('val/diversity_at_5', 'val/Kauzchen', 'a_3a_b', 'up')
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    plain = re.sub(r"[^a-zA-Z0-9_/. -]", lambda sign: f"_{ord(sign.group()):x}_", re.sub("@+", "_at_", plain))
    return "/".join(part for part in plain.split("/") if part.strip(". "))[:240].rstrip("/") or "unnamed"
