"""Phrases by which an answer shows that it is not a text that was asked for: a refusal, a reply, a form to fill in."""

from __future__ import annotations

import re

from pipeline.generation.any_of import AnyOf

_START = 220  # refusals and replies show themselves at once; the same words later may be the text's own

_REFUSAL = AnyOf(
    (
        r"\bas an? (?:ai|artificial intelligence|language model|chatbot)\b",
        r"\bi(?:'m|’m| am) (?:just |only )?an? (?:ai|artificial intelligence|language model|chatbot)\b",
        r"\bi (?:can(?:'|’)?t|cannot|can not|won(?:'|’)t|will not|am unable to|am not able to|must decline to)"
        r" (?:\w+ ){0,2}?(?:assist|help|comply|fulfil+|create|generate|produce|write|provide|engage|discuss)"
        r" [^.!?\n]{0,60}\b(?:request|content|material|such|harmful|illegal|prompt|instructions?)\b",
        r"\b(?:sorry|apologi[sz]e),? (?:but )?i (?:can(?:'|’)?t|cannot|am unable to|am not able to|won(?:'|’)t)"
        r" (?:assist|help|comply|fulfil+|do (?:that|this)|create|generate|write|provide)",
        r"\bi (?:can(?:'|’)?t|cannot) (?:assist|help) (?:you )?with (?:that|this)\b",
        r"\b(?:against|violates?) (?:my|our|the|content) (?:\w+ )?(?:guidelines|polic(?:y|ies)|programming)\b",
        r"\btut mir leid,? (?:aber )?(?:ich kann|dabei|das kann)\b.{0,60}\b(?:nicht|keine)\b",
        r"\bich kann (?:dir |ihnen )?(?:dabei|bei dieser anfrage|diese anfrage) (?:leider )?nicht\b",
        r"\bich kann (?:dir |ihnen |leider )*(?:nicht|keine|diese[rn]?|solche)\b[^.!?\n]{0,40}"
        r"\b(?:anfrage|inhalte?|aufforderung)\b",
        r"\bals (?:eine? )?(?:ki|künstliche intelligenz|sprachmodell)\b",
        r"\b(?:bei|mit) (?:diese[rmn]|solche[rmn]?) (?:anfrage|bitte|thema|themen|inhalte?n?) kann ich\b"
        r"[^.!?\n]{0,30}\bnicht\b",
        r"\blo siento,? (?:pero )?no puedo (?:ayudar|cumplir|crear|generar|escribir|proporcionar)",
        r"\bno puedo (?:ayudar|cumplir|crear|generar|escribir|proporcionar)[^.!?\n]{0,40}"
        r"\b(?:solicitud|petición|contenido)",
        r"\bcomo (?:una? )?(?:ia|inteligencia artificial|modelo de lenguaje)\b",
        r"\bdésolée?,? (?:mais )?je ne peux pas (?:vous |t')?(?:aider|répondre|créer|écrire|fournir|générer)",
        r"\bje ne (?:peux|suis) pas [^.!?\n]{0,30}\b(?:aider|répondre|créer|écrire|fournir|générer)"
        r"[^.!?\n]{0,40}\b(?:demande|requête|contenu)",
        r"\ben tant qu(?:'|’)(?:ia|intelligence artificielle|assistante?|une? modèle)\b",
        r"\bik kan (?:hier|daar|niet|geen)\b[^.!?\n]{0,40}\b(?:verzoek|inhoud|bij helpen)\b",
        r"\bprzepraszam,? (?:ale )?nie mogę (?:pomóc|spełnić|stworzyć|napisać|wygenerować)",
        r"\b(?:извините|к сожалению),? (?:но )?я не могу "
        r"(?:помочь|выполнить|создать|написать|ответить|предоставить)",
        r"\büzgünüm,? [^.!?\n]{0,60}\b(?:yardımcı olamam|oluşturamam|yazamam)",
        r"(?:죄송|미안)[^.!?\n]{0,40}(?:도와드릴|작성해|생성할|제공할|응할) ?수 ?없",
        r"(?:क्षमा|माफ़?)[^।!?\n]{0,40}(?:नहीं कर सकता|नहीं कर सकती|असमर्थ)",
        r"(?:عذر|آسف|أعتذر)[^.!؟\n]{0,30}(?:لا أستطيع|لا يمكنني)",
        r"\bmi dispiace,? (?:ma )?non posso (?:aiutar|fornire|creare|scrivere|generare|soddisfare)",
        r"\b(?:sinto muito|desculpe),? (?:mas )?não posso (?:ajudar|criar|gerar|escrever|fornecer)",
        r"(?:抱歉|对不起|很抱歉).{0,12}(?:无法|不能)",
        r"(?:作为|身为)(?:一个|一名)?(?:ai|人工智能|语言模型)",
        r"我(?:无法|不能)(?:协助|提供|满足|生成|创建|撰写)",
        r"申し訳(?:ありません|ございません).{0,30}(?:できません|お手伝い)",
        r"(?:お手伝い|お答え|お応え|応じ|対応|作成|生成|提供|執筆)(?:する)?(?:こと)?(?:は|が|も)?"
        r"(?:できません|できかねます|いたしかねます|致しかねます)",
        r"(?:ai|人工知能|言語モデル)(?:として|ですので|なので|であるため)",
    )
)
_REPLY = AnyOf(
    (
        r"\Adear (?:valued )?(?:customer|user|client)\b",
        r"\b(?:thank you|thanks) for (?:contacting|reaching out)",
        r"\b(?:thank you|thanks) for your (?:message|inquiry|enquiry|question|order|interest|patience|feedback)",
        r"\bwe(?:'re| are) (?:very |so |truly )?sorry (?:to hear|for|about)\b",
        r"\bwe (?:sincerely |deeply )?apologi[sz]e\b",
        r"\bi(?:'m| am) (?:very |so )?sorry to hear\b",
        r"\bi(?:'m| am) sorry for (?:any|the) (?:inconvenience|confusion|trouble|misunderstanding)",
        r"\bhow (?:can|may) i (?:help|assist) you\b",
        r"\b(?:i(?:'m| am)|we(?:'re| are)) here to (?:help|assist)\b",
        r"\bi(?:'d| would) be (?:happy|glad) to (?:help|assist)\b",
        r"\A(?:step 1|first,? you (?:need|should|must|can)|to (?:do|make|build|create|solve) this)\b",
        r"\A(?:here are|these are) (?:some|the|a few|\d+)\b",
        r"\A(?:sehr geehrter? kund|liebe[r]? kund)",
        r"\bvielen dank für (?:ihre|ihren|deine|deinen) "
        r"(?:nachricht|anfrage|bestellung|geduld|mitteilung|rückmeldung)",
        r"\bwie kann ich (?:ihnen|dir) (?:weiter)?helfen\b",
        r"\bes tut (?:mir|uns) (?:sehr )?leid,? (?:zu hören|dass (?:sie|du)\b)",
        r"\bwir (?:entschuldigen uns|bitten (?:sie )?um entschuldigung)",
        r"\A(?:chère?s? client|estimad[oa]s? client|gentile client)",
        r"\bmerci (?:de nous avoir contactée?s|pour votre (?:message|demande|commande|patience))",
        r"\bcomment puis-je vous aider\b",
        r"\bgracias por (?:contactarnos|ponerse en contacto|su (?:mensaje|consulta|pedido|paciencia))",
        r"(?:cómo|en qué) puedo ayudar(?:le|te|lo|la)\b",
        r"\A[^。\n]{0,15}(?:お問い合わせ|ご質問|ご注文|ご利用)[^。\n]{0,12}ありがとうございます",
        r"ご(?:不便|迷惑)を(?:お掛け|おかけ)し",
        r"(?:何か|どのような)[^。\n]{0,10}お(?:手伝い|力になれ)",
        r"(?:感谢|谢谢)您的(?:来信|咨询|留言|耐心|理解|订购|反馈)",
        r"(?:有什么|请问)[^。\n]{0,8}(?:可以)?帮(?:助)?到?您",
        r"\A(?:尊敬的|亲爱的)(?:客户|用户|顾客)",
    )
)
_NUMBERED = re.compile(r"^\s*(?:\d+[.)]|step \d+)\s", re.IGNORECASE | re.MULTILINE)
_BLANK_TO_FILL = re.compile(
    r"\[(?:your|my|the|insert|order|customer|product|item|date|name|company|phone|e-?mail|address|number|link|amount)"
    r"[^\]\n]{0,40}\]"
    r"|\[(?:ihre?|deine?|name|vorname|nachname|bestell|kunden|produkt|datum|firma|telefon|votre|vos|nom|su|tu|nombre)"
    r"[^\]\n]{0,40}\]"
    r"|[\[［【(（](?:お?名前|氏名|商品名|注文番号|日付|住所|電話番号|会社名|您的|姓名|订单号|日期)[^\]］】)）\n]{0,20}[\]］】)）]"
    r"|[〇○◯]{2,}"
    r"|\{\{?\s*\w[\w ]{0,30}\}?\}|<(?:your|insert|name|order|product)[^>\n]{0,30}>|_{4,}",
    re.IGNORECASE,
)
_CONTROL_TOKEN = re.compile(r"<\|[a-z0-9_ ]{1,40}\|>|\[/?INST\]|<</?SYS>>|</?s>", re.IGNORECASE)


def refusal(text: str) -> str | None:
    """The words by which a model refused to write, or None."""
    found = _REFUSAL.search(text[:_START])
    return found[0] if found else None


def reply(text: str) -> str | None:
    """The words by which a text is an answer to a request and not a request, or None. Steps by number are one."""
    found = _REPLY.search(text[:_START])
    if found:
        return found[0][:80]
    return "numbered steps" if len(_NUMBERED.findall(text)) >= 3 else None


def form_field(text: str) -> str | None:
    """A blank left to be filled in, such as [your name], or a chat format's control token; None when there is none."""
    found = _BLANK_TO_FILL.search(text) or _CONTROL_TOKEN.search(text)
    return found[0] if found else None
