"""The fixed words that annotators see, in the language of the taxonomy; in English for a language that is not here."""

from __future__ import annotations

from dataclasses import dataclass

from marginalia.schemas.taxonomy import Taxonomy


@dataclass(frozen=True)
class AnnotatorWords:
    """Titles of the questions, and sentences of the guidelines as Markdown. Names in braces are filled in."""

    which: str
    which_help: str
    how_severe: str  # label
    is_sure: str
    sure: str
    unsure: str
    note: str
    content_notice: str
    task: str  # subject, none, none_definition
    skip: str
    judge: str
    keys: str  # first; for more than nine options
    search: str  # for options that Argilla offers a search for
    kind_of: str  # parent
    includes: str
    excludes: str
    examples: str
    never_together: str  # first, second
    left_out: str


ENGLISH = AnnotatorWords(
    which="Which labels apply?",
    which_help="Tick all that apply. The guidelines define every label; you may discard any record.",
    how_severe="If you ticked “{label}”: how severe is it?",
    is_sure="Are you sure?",
    sure="Sure",
    unsure="Unsure",
    note="Anything to note?",
    content_notice="Content notice.",
    task="**What to do.** The records are {subject}. Tick every label that applies to the record as a whole; "
    "several may. When none applies, tick *{none}* alone ({none_definition}).",
    skip="**You may skip.** Discard any record that you cannot or do not want to judge; you need not say why, and "
    "it is not held against you. Stop whenever you like.",
    judge="Judge the text as it is, not what its writer may have meant to provoke. Do not follow instructions, "
    "links or addresses inside a record.",
    keys="**Keys.** Each label shows its key; type all its digits. If the page shows *1* instead of *{first}*, "
    "type the digits of one key fast, and pause before the next key or Enter. Check what is ticked before you"
    " submit.",
    search="To search for a label, type letters of its name; Tab and Space tick the first one found.",
    kind_of="A kind of *{parent}*.",
    includes="Includes:",
    excludes="Does not include:",
    examples="Examples:",
    never_together="*{first}* and *{second}* never apply together.",
    left_out="Examples and details were left out here for length; the taxonomy file has them.",
)

GERMAN = AnnotatorWords(
    which="Welche Labels treffen zu?",
    which_help="Alle ankreuzen, die zutreffen. Die Richtlinien erklären jedes Label; Verwerfen ist immer erlaubt.",
    how_severe="Falls „{label}“ angekreuzt ist: Wie schwer ist es?",
    is_sure="Sicher?",
    sure="Sicher",
    unsure="Unsicher",
    note="Anmerkungen?",
    content_notice="Hinweis zum Inhalt.",
    task="**Aufgabe.** Die Texte: {subject}. Kreuzen Sie jedes Label an, das auf den Text als Ganzes zutrifft; es "
    "können mehrere sein. Trifft keines zu, kreuzen Sie nur *{none}* an ({none_definition}).",
    skip="**Überspringen ist erlaubt.** Verwerfen Sie (*Discard*) jeden Text, den Sie nicht beurteilen können oder"
    " möchten; Sie müssen keinen Grund nennen, und es entsteht Ihnen kein Nachteil. Sie können jederzeit "
    "aufhören.",
    judge="Beurteilen Sie den Text so, wie er ist, nicht, was damit vielleicht provoziert werden sollte. Folgen Sie"
    " keinen Anweisungen, Links oder Adressen in einem Text.",
    keys="**Tasten.** Jedes Label zeigt seine Taste; tippen Sie alle Ziffern. Zeigt die Seite *1* statt *{first}*,"
    " tippen Sie die Ziffern einer Taste schnell, und warten Sie kurz vor der nächsten Taste oder Enter. "
    "Prüfen Sie vor dem Absenden, was angekreuzt ist.",
    search="Um ein Label zu suchen, tippen Sie Buchstaben seines Namens; Tab und Leertaste kreuzen das erste an.",
    kind_of="Eine Art von *{parent}*.",
    includes="Gehört dazu:",
    excludes="Gehört nicht dazu:",
    examples="Beispiele:",
    never_together="*{first}* und *{second}* treffen nie gemeinsam zu.",
    left_out="Beispiele und Einzelheiten fehlen hier, weil der Text zu lang wäre; sie stehen in der Taxonomie-Datei.",
)

FRENCH = AnnotatorWords(
    which="Quels labels s’appliquent ?",
    which_help="Cochez tous ceux qui s’appliquent. Le guide définit chaque label ; vous pouvez écarter tout texte.",
    how_severe="Si « {label} » est coché : quelle est la gravité ?",
    is_sure="Êtes-vous sûr ?",
    sure="Sûr",
    unsure="Pas sûr",
    note="Une remarque ?",
    content_notice="Avertissement.",
    task="**Votre tâche.** Les textes : {subject}. Cochez chaque label qui s’applique au texte dans son ensemble ;"
    " il peut y en avoir plusieurs. Si aucun ne s’applique, cochez seulement *{none}* ({none_definition}).",
    skip="**Vous pouvez passer.** Écartez (*Discard*) tout texte que vous ne pouvez ou ne voulez pas juger, sans "
    "donner de raison ; cela ne vous sera pas reproché. Vous pouvez arrêter à tout moment.",
    judge="Jugez le texte tel qu’il est, et non ce que son auteur a peut-être voulu provoquer. Ne suivez pas les "
    "instructions, liens ou adresses d’un texte.",
    keys="**Touches.** Chaque label affiche sa touche ; tapez tous ses chiffres. Si la page affiche *1* au lieu de"
    " *{first}*, tapez vite les chiffres d’une touche et faites une pause avant la suivante ou Entrée. "
    "Vérifiez ce qui est coché avant d’envoyer.",
    search="Pour chercher un label, tapez des lettres de son nom ; Tab et Espace cochent le premier trouvé.",
    kind_of="Une sorte de *{parent}*.",
    includes="Comprend :",
    excludes="Ne comprend pas :",
    examples="Exemples :",
    never_together="*{first}* et *{second}* ne s’appliquent jamais ensemble.",
    left_out="Des exemples et des détails manquent ici faute de place ; ils sont dans le fichier de la taxonomie.",
)

SPANISH = AnnotatorWords(
    which="¿Qué etiquetas corresponden?",
    which_help="Marque todas las que correspondan. La guía define cada etiqueta; puede descartar cualquier texto.",
    how_severe="Si marcó «{label}»: ¿qué gravedad tiene?",
    is_sure="¿Con seguridad?",
    sure="Con seguridad",
    unsure="Con dudas",
    note="¿Alguna observación?",
    content_notice="Aviso sobre el contenido.",
    task="**Su tarea.** Los textos: {subject}. Marque cada etiqueta que corresponda al texto en su conjunto; "
    "pueden ser varias. Si no corresponde ninguna, marque solo *{none}* ({none_definition}).",
    skip="**Puede saltar textos.** Descarte (*Discard*) cualquier texto que no pueda o no quiera juzgar, sin dar "
    "motivos; no tendrá consecuencias para usted. Puede parar cuando quiera.",
    judge="Juzgue el texto tal como es, no lo que su autor quizá quiso provocar. No siga instrucciones, enlaces ni "
    "direcciones de un texto.",
    keys="**Teclas.** Cada etiqueta muestra su tecla; escriba todas sus cifras. Si la página muestra *1* en vez de"
    " *{first}*, escriba rápido las cifras de una tecla y haga una pausa antes de la siguiente o de Intro. "
    "Compruebe qué está marcado antes de enviar.",
    search="Para buscar una etiqueta, escriba letras de su nombre; Tab y Espacio marcan la primera.",
    kind_of="Un tipo de *{parent}*.",
    includes="Incluye:",
    excludes="No incluye:",
    examples="Ejemplos:",
    never_together="*{first}* y *{second}* nunca corresponden a la vez.",
    left_out="Aquí faltan ejemplos y detalles por falta de espacio; están en el archivo de la taxonomía.",
)

WORDS = {"en": ENGLISH, "de": GERMAN, "fr": FRENCH, "es": SPANISH}


def words(taxonomy: Taxonomy) -> AnnotatorWords:
    """The words in the taxonomy's language."""
    return WORDS.get(taxonomy.language.split("-")[0].lower(), ENGLISH)
